/*
 * streams DIR: what becomes of a stream in each mode, opened and opened anew, of a file that is there, one that is not, a link,
 * a directory and a pipe. To be the same with the library as without it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

static const char *const modes[] = {
	"r", "w", "a", "r+", "w+", "a+", "rb", "r+b", "rb+", "re", "we", "ae", "r+e", "wx", "w+x", "wxe", "wbx", "ax", "rx", "rm", "rc", "wc",
	"", "z", "+r", " r", "r b+", "rbbbbb+", "rbbbbbb+", "wbbbbbbx", "rbbbbbbe", "r,ccs=UTF-8", "w,ccs=UTF-8", "wx,ccs=UTF-8",
};
static const char *const kinds[] = { "file", "new", "link", "dangling", "dir", "fifo", "secret", "file/", "new/", "dir/" };

static void prepare(const char *top)
{
	char name[4096];
	for (unsigned k = 0; k < 7; k++) {
		snprintf(name, sizeof name, "%s/%s", top, kinds[k]);
		if (k != 4)
			unlink(name);
		if (k == 0 || k == 6)
			close(open(name, O_CREAT | O_WRONLY, 0600));
		if (k == 0 && truncate(name, 20))
			printf("no file\n");
		if (k == 2 || k == 3)
			(void)!symlink(k == 2 ? "file" : "missing", name);
		if (k == 4)
			mkdir(name, 0700);
		if (k == 5)
			mkfifo(name, 0600);
		if (k == 6)
			chmod(name, 0);
	}
	snprintf(name, sizeof name, "%s/missing", top);
	unlink(name);
}

static void tell(const char *how, const char *kind, const char *mode, FILE *f, int error)
{
	printf("%s %s '%s': ", how, kind, mode);
	if (!f) {
		printf("%d\n", error);
		return;
	}
	struct stat st;
	char text[10] = "";
	int fd = fileno(f);
	fstat(fd, &st);
	printf("fd %d %x %d size %d", strstr(mode, "ccs") ? 0 : fd, (unsigned)(fcntl(fd, F_GETFL) & ~O_NOFOLLOW), fcntl(fd, F_GETFD), (int)st.st_size);
	errno = 0;
	if (strstr(mode, "ccs")) {     /* of wide characters */
		printf(" wide %d", fwide(f, 0));
		printf(" read %x", fgetwc(f));
		printf(" put %x", fputwc(L'\u00e4', f));
		printf(" close %d\n", fclose(f));
		return;
	}
	printf(" at %ld", ftell(f));
	printf(" read %d", S_ISDIR(st.st_mode) ? -1 : (int)fread(text, 1, 3, f));
	printf(" error %d", ferror(f));
	clearerr(f);
	fseek(f, 0, SEEK_CUR);
	printf(" put %d", fputs("abc", f));
	printf(" flush %d at %ld", fflush(f), ftell(f));
	printf(" close %d", fclose(f));
	printf(" size %d\n", fstat(fd, &st));
}

int main(int argc, char **argv)
{
	char path[4096];
	if (argc < 2)
		return 2;
	setvbuf(stdout, NULL, _IONBF, 0);
	umask(argc > 2 ? 0777 : 022);
	for (unsigned k = 0; k < sizeof kinds / sizeof *kinds; k++) {
		for (unsigned m = 0; m < sizeof modes / sizeof *modes; m++) {
			snprintf(path, sizeof path, "%s/%s", argv[1], kinds[k]);
			prepare(argv[1]);
			int ends = k == 5 ? open(path, O_RDWR) : -1;         /* else nobody would get on */
			if (ends >= 0)
				(void)!write(ends, "0123456789", 10);
			errno = 0;
			FILE *f = fopen(path, modes[m]);
			tell("fopen", kinds[k], modes[m], f, errno);
			close(ends);
			prepare(argv[1]);
			ends = k == 5 ? open(path, O_RDWR) : -1;
			if (ends >= 0)
				(void)!write(ends, "0123456789", 10);
			/* what was not written yet belongs to the file that the stream had before */
			char same[4096];
			snprintf(same, sizeof same, "%s/file", argv[1]);
			FILE *was = fopen(same, "a");
			fputs("pending", was);
			errno = 0;
			f = freopen(path, modes[m], was);
			tell("freopen", kinds[k], modes[m], f, errno);
			close(ends);
		}
	}
	/* none is left */
	printf("%d\n", dup(0));
	return 0;
}
