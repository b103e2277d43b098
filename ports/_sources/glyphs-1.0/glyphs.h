struct glyph {
	unsigned code;
	const char *name;
};

extern const struct glyph glyphs[];
extern const unsigned glyph_count;
