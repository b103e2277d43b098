"""Write table.c: the Latin letters of Unicode with their names, for glyphs.c."""

import sys
import unicodedata


def main() -> int:
    rows = []
    for code in range(0x20, 0x180):
        name = unicodedata.name(chr(code), "")
        if name:
            rows.append(f'\t{{0x{code:04x}, "{name}"}},')
    out = ["#include \"glyphs.h\"", "", "const struct glyph glyphs[] = {", *rows, "};", ""]
    out.append("const unsigned glyph_count = sizeof glyphs / sizeof *glyphs;")
    with open(sys.argv[1], "w", encoding="utf-8") as f:
        f.write("\n".join(out) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
