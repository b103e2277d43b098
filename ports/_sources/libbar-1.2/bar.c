#include "bar.h"

const char *bar_version(void)
{
	return "1.2";
}

const char *bar_greeting(void)
{
	return "hello from bar";
}
