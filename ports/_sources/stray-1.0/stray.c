#include "stray.h"

const char *stray_version(void)
{
	return "1.0";
}

int stray_number(void)
{
	return 42;
}
