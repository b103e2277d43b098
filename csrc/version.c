#include "version.h"

const char *pt_version(void)
{
	return "0.1.0";
}
