#include "version.h"
__attribute__((constructor)) static void tracelib_init(void)
{
	(void)pt_version();
}
