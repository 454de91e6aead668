#pragma once
// The small model that comes with cajal.
#include <map>
#include <string>

namespace cajal {

// Its folder: what CAJAL_DEMO_MODEL names, or else what lies beside the program or the library that this code is in, as
// installed (PREFIX/share/cajal/demo-model) or in a clone (share/demo-model). Empty if there is none.
std::string find_demo_model(const std::map<std::string, std::string>& environment);

}  // namespace cajal
