#pragma once
/* What libcajal.so shows. Also for C. */

#if defined(__GNUC__)
#define CAJAL_API __attribute__((visibility("default")))
#define CAJAL_LOCAL __attribute__((visibility("hidden")))
#else
#define CAJAL_API
#define CAJAL_LOCAL
#endif
