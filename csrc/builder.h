/*
 * Makes policy images (see policy.h for their reader). Session side only: it
 * allocates, so the injected library does not link it.
 */
#ifndef PORTTRACE_BUILDER_H
#define PORTTRACE_BUILDER_H

#include "owners.h"
#include "policy.h"

struct pt_build {
	uint32_t flags;             /* enum pt_image_flag; REDIRECTS and LIVE are added where a rule says so */
	uint32_t rules;             /* number of rules, those of the read map first or mixed: the order in each map counts */
	const uint8_t *actions;     /* one for each rule, enum pt_action */
	const uint8_t *maps;        /* one for each rule, enum pt_map */
	const uint8_t *rule_flags;  /* one for each rule, enum pt_rule_flag */
	const char *rule_texts;     /* for each rule three texts, each with its NUL: path, target (may be empty), origin */
	size_t rule_texts_size;
	uint32_t ports;
	const char *port_names;     /* each with its NUL */
	size_t port_names_size;
	const uint8_t *in_closure;  /* one for each port */
	uint32_t labels;
	const char *label_texts;    /* for each label two texts: key, value */
	size_t label_texts_size;
	uint32_t places;
	const char *place_texts;    /* for each place two texts: a path of a directory, its real path (see pt_image_place) */
	size_t place_texts_size;
	uint32_t programs;
	const char *program_texts;  /* for each program two texts: a path, where it leads in one step (see pt_image_program) */
	size_t program_texts_size;
	const struct pt_owners *owners; /* NULL: no table */
	uint64_t seed;              /* used where owners is NULL */
};

enum pt_rule_flag { PT_RULE_LITERAL = 1, PT_RULE_LIVE = 2, PT_RULE_SILENT = 4, PT_RULE_FALLBACK = 8 };

/*
 * The image, to be freed with pt_build_free(); NULL with *why (a static text) and *rule (the rule concerned, or
 * PT_NO_RULE). A component rule's path has no '/' at its end ("/" stands for the root); callers normalize.
 */
void *pt_build_image(const struct pt_build *, size_t *size, const char **why, uint32_t *rule);
void pt_build_free(void *image);

/* Checks everything that pt_image_check() leaves out: true when every offset, index and order in the image is sound. */
bool pt_image_verify(const void *bytes, size_t size, const char **why, size_t *offset);

#endif
