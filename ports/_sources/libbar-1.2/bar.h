/* libbar: a small C library. */
#ifndef BAR_H
#define BAR_H

#ifdef __cplusplus
extern "C" {
#endif

const char *bar_version(void);  /* "1.2" */
const char *bar_greeting(void); /* one line, without its newline */

#ifdef __cplusplus
}
#endif

#endif
