#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bar.h>

#include "sieve.h"

int main(int argc, char **argv)
{
	if (argc != 2 || strcmp(argv[1], "--version") == 0) {
		printf("primes %s, %s\n", PRIMES_VERSION, bar_greeting());
		return argc != 2;
	}
	size_t limit = strtoul(argv[1], NULL, 10);
	bool *composite = calloc(limit + 1, sizeof *composite);
	if (!composite) {
		perror("primes");
		return 1;
	}
	sieve(composite, limit + 1);
	for (size_t i = 0; i <= limit; i++)
		if (!composite[i])
			printf("%zu ", i);
	putchar('\n');
	free(composite);
	return 0;
}
