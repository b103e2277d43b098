#ifndef PORTTRACE_VERSION_H
#define PORTTRACE_VERSION_H
const char *pt_version(void);
#endif
