/* attempt KIND NAME [TARGET]: one attempt; without arguments the names of all. */
#include "attempt.h"

char base[512];

const char *in(const char *name)
{
	static char ring[8][1024];
	static unsigned next;
	char *out = ring[next++ % 8];
	snprintf(out, sizeof ring[0], "%s/%s", base, name);
	return out;
}

const char *deep(const char *name)
{
	static char up[512];
	char part[202];
	if (chdir(in("work")))
		return "/";
	memset(part, 'd', sizeof part - 1);
	part[sizeof part - 1] = 0;
	strcpy(up, "../");
	for (int i = 0; i < 22; i++) {
		if ((mkdir(part, 0755) && errno != EEXIST) || chdir(part))
			return "/";
		strcat(up, "../");
	}
	return strcat(up, name);
}

int show(const char *text)
{
	printf("GOT %s\n", text);
	fflush(stdout);
	return 0;
}

int show_fd(int fd)
{
	char buf[256];
	if (fd < 0)
		return errno;
	ssize_t n = read(fd, buf, sizeof buf - 1);
	if (n < 0)
		return errno;
	buf[n] = 0;
	return show(buf);
}

void put_program(const char *at, const void *bytes, size_t n)
{
	int f = open(at, O_CREAT | O_TRUNC | O_WRONLY, 0755);
	(void)!write(f, bytes, n);
	close(f);
}

void put_with_loader(const char *at, const char *loader, uint64_t place)
{
	static struct { unsigned char ehdr[64]; struct { uint32_t type, flags; uint64_t offset, at, pat, file, mem, align; } ph[2]; char rest[16384]; } e;
	memset(&e, 0, sizeof e);
	memcpy(e.ehdr, "\177ELF\2\1\1", 7);
	memcpy(e.ehdr + 16, (uint16_t[]){ 3, 62 }, 4);
	e.ehdr[20] = 1;
	e.ehdr[32] = 64;
	memcpy(e.ehdr + 52, (uint16_t[]){ 64, 56, 2 }, 6);
	e.ph[0].type = 3;
	e.ph[0].flags = 4;
	e.ph[0].offset = place;
	e.ph[0].file = e.ph[0].mem = strlen(loader) + 1;
	e.ph[1].type = 1;
	e.ph[1].flags = 5;
	e.ph[1].file = e.ph[1].mem = sizeof e;
	e.ph[1].align = 4096;
	strcpy((char *)&e + place, loader);
	put_program(at, &e, sizeof e);
}

int main(int argc, char **argv)
{
	const struct attempt *kinds[] = { read_attempts, loader_attempts, kernel_read_attempts, exist_attempts, kernel_exist_attempts,
					  write_attempts, kernel_write_attempts, socket_read_attempts, socket_exist_attempts,
					  race_read_attempts, race_exist_attempts, door_read_attempts, door_exist_attempts, door_write_attempts, others_read_attempts,
					  start_read_attempts, name_read_attempts };
	const char *names[] = { "read", "read", "read", "exist", "exist", "write", "write", "read", "exist", "read", "exist", "read", "exist", "write", "read", "read", "read" };
	if (getenv("BASE"))
		snprintf(base, sizeof base, "%s", getenv("BASE"));
	for (unsigned k = 0; k < sizeof kinds / sizeof *kinds; k++)
		for (const struct attempt *a = kinds[k]; a->name; a++) {
			if (argc < 3) {
				printf("%s %s\n", names[k], a->name);
			} else if (!strcmp(argv[1], names[k]) && !strcmp(argv[2], a->name)) {
				int e = a->run(argc > 3 ? argv[3] : in("hidden/secret"));
				printf("ERRNO %d\n", e);
				return 0;
			}
		}
	return argc < 3 ? 0 : 99;
}
