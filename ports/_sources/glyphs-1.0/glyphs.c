/* glyphs: the name of a character, by its code in hexadecimal. */
#include <stdio.h>
#include <stdlib.h>

#include "glyphs.h"

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: glyphs CODE\n");
		return 2;
	}
	unsigned code = strtoul(argv[1], NULL, 16);
	for (unsigned i = 0; i < glyph_count; i++) {
		if (glyphs[i].code == code) {
			puts(glyphs[i].name);
			return 0;
		}
	}
	fprintf(stderr, "glyphs: no character %04x in the table\n", code);
	return 1;
}
