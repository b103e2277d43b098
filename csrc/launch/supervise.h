/* Put the calling process and all its descendants under the session's supervisor. */
#ifndef PORTTRACE_LAUNCH_SUPERVISE_H
#define PORTTRACE_LAUNCH_SUPERVISE_H

/* NULL when supervised (also when it was already), or what failed with errno set. Wants no_new_privs. */
const char *pt_supervise(const char *session);

#endif
