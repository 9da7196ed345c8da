/* The version has one home: AC_INIT in configure.ac, which config.h brings here. */
#include "engine/lsm.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "0.0.0-unconfigured" /* one file compiled by hand, without config.h */
#endif

LSM_API const char *lsm_version(void)
{
    return PACKAGE_VERSION;
}
