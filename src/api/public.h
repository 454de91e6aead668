#pragma once
// The public headers as src/ sees them. To a program cajal::Error is the public one; in here it is the base layer's, as
// everywhere in src/, and the public one is api::Error. Both have the same names in libcajal.so either way.
#define CAJAL_ABI_INLINE
#include "cajal/cajal.h"
#include "cajal/error.h"
#include "cajal/export.h"

namespace cajal {
namespace api = v1;
}
