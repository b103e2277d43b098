/*
 * Two names of one file: where a redirect rule of a policy image sends a path, and by which path a program knows the
 * place where it got to.
 */
#include "bytes.h"
#include "policy.h"

/* How many bytes of a path the rule's prefix stands for; a final '/' stays with the rest. */
static uint32_t stem(const struct pt_rule_view *r)
{
	return r->path_len && r->path[r->path_len - 1] == '/' ? r->path_len - 1 : r->path_len;
}

static uint32_t target_stem(const struct pt_rule_view *r)
{
	uint32_t n = r->target_len;

	while (n && r->target[n - 1] == '/')
		n--;
	return n;
}

static size_t join(char *out, size_t cap, const char *a, size_t alen, const char *b, size_t blen)
{
	if (alen >= cap || blen >= cap - alen || alen + blen + 2 > cap)
		return 0;
	memcpy(out, a, alen);
	memcpy(out + alen, b, blen);
	if (!(alen + blen))
		out[blen++] = '/';
	out[alen + blen] = '\0';
	return alen + blen;
}

size_t pt_redirect(const struct pt_image *image, uint32_t rule, const char *path, size_t len, char *out, size_t cap)
{
	struct pt_rule_view r;

	if (!pt_image_rule(image, rule, &r) || r.action != PT_REDIRECT || len < stem(&r) || memcmp(path, r.path, stem(&r)) != 0)
		return 0;
	if (len == 1 && *path == '/')
		len = 0; /* the root directory itself becomes the target, not the target with a slash */
	return join(out, cap, r.target, target_stem(&r), path + (len ? stem(&r) : 0), len - (len ? stem(&r) : 0));
}

size_t pt_unredirect(const struct pt_image *image, const char *physical, size_t len, char *out, size_t cap)
{
	uint32_t i;

	if (!(pt_image_flags(image) & PT_IMG_REDIRECTS))
		return 0;
	for (i = 0; i < pt_image_rules(image); i++) {
		struct pt_rule_view r;
		size_t n;

		if (!pt_image_rule(image, i, &r) || r.action != PT_REDIRECT || r.map != PT_READ)
			continue;
		if (len < target_stem(&r) || memcmp(physical, r.target, target_stem(&r)) != 0)
			continue;
		if (!r.literal && len > target_stem(&r) && physical[target_stem(&r)] != '/')
			continue;
		n = join(out, cap, r.path, stem(&r), physical + target_stem(&r), len - target_stem(&r));
		/* only where going there leads here: another rule may stand before this one */
		if (n && pt_decide(image, PT_READ, out, n).rule == i)
			return n;
	}
	return 0;
}
