#pragma once
// The names of the library carry the version of its binary interface: a program that was built against another one does
// not link. To a program they are cajal::Engine and so on.
#ifndef CAJAL_ABI_INLINE
#define CAJAL_ABI_INLINE inline
#endif

#define CAJAL_BEGIN_NAMESPACE \
  namespace cajal {           \
  CAJAL_ABI_INLINE namespace v1 {
#define CAJAL_END_NAMESPACE \
  }                         \
  }
