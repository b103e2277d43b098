/* foo: prints libbar's greeting, and with --version what it was built with. */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include <bar.h>
#ifdef WITH_STRAY
#include <stray.h>
#endif

static void version(void)
{
	puts("foo 1.0");
	printf("libbar: %s\n", bar_version());
#ifdef HAVE_STRAY_H
	puts("stray.h: yes");
#else
	puts("stray.h: no");
#endif
	printf("stray-config: %s\n", STRAY_CONFIG);
#ifdef WITH_STRAY
	printf("stray: %s\n", stray_version());
#else
	puts("stray: no");
#endif
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--version") == 0) {
		version();
		return 0;
	}
	if (argc > 1) {
		fprintf(stderr, "usage: foo [--version]\n");
		return 2;
	}
	puts(bar_greeting());
#ifdef WITH_STRAY
	printf("%d\n", stray_number());
#endif
	return 0;
}
