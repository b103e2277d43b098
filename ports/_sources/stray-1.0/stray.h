/* stray: a library that nobody asked for. */
#ifndef STRAY_H
#define STRAY_H

const char *stray_version(void);
int stray_number(void);

#endif
