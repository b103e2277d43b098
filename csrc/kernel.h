/* What Python needs of the kernel and has no function for. On systems other than Linux there is neither. */
#ifndef PORTTRACE_KERNEL_H
#define PORTTRACE_KERNEL_H

#include <stdbool.h>

int pt_landlock_abi(void);         /* the version of Landlock's interface, 0 where there is none */
bool pt_become_subreaper(void);    /* orphans below this process are handed to it and not to init */

#endif
