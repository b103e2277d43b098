/* tally: counts lines, words and bytes of its input. */
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>

int main(void)
{
	unsigned long lines = 0, words = 0, bytes = 0;
	bool inside = false;
	int c;

	while ((c = getchar()) != EOF) {
		bytes++;
		lines += c == '\n';
		if (!isspace(c) && !inside)
			words++;
		inside = !isspace(c);
	}
	printf("%lu %lu %lu\n", lines, words, bytes);
	return 0;
}
