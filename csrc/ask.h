/*
 * Live asks: what the image cannot know, or what a rule with `live` wants
 * answered now, goes to the socket in the session directory, the directory
 * above the one in which the library lies:
 *
 *   /tmp/macports/{pid of port}/socket      AF_UNIX, SOCK_SEQPACKET
 *
 * One packet asks, one packet answers; a connection may carry any number of
 * pairs, and may be given up after each. The server never waits for a client:
 * one that does not read its answers is disconnected.
 *
 *   question:  number of the policy (the N of .../N/tracelib.so, decimal digits),
 *              '\0', the map (PT_READ or PT_WRITE as one byte), real path (no NUL)
 *              or, on macOS, PT_ASK_COPY as that byte: "make the copy of this protected program" (csrc/tracelib/sip.c)
 *   answer:    action (PT_ALLOW or PT_DENY as one byte; PT_ALLOW for a directory),
 *              flags (PT_V_UNOWNED or 0, one byte), name of the owning port (no NUL, may be empty)
 *
 * macOS has no SOCK_SEQPACKET for AF_UNIX: there a stream carries one question and one answer, each ended by its sender.
 *
 * No answer within PT_ASK_TIMEOUT_MS, or none at all: the caller decides by the
 * image, which gives the same answer as long as the registry has not changed.
 */
#ifndef PORTTRACE_ASK_H
#define PORTTRACE_ASK_H

#define PT_ASK_SOCKET "socket"
#define PT_ASK_COPY 2
#define PT_ASK_COPY_TIMEOUT_MS 30000  /* codesign is slow when it starts */
#define PT_ASK_TIMEOUT_MS 2000
#define PT_ASK_PACKET 20480     /* longest question: a path of PT_PATH_CAP and its head; longer ones are refused */
#define PT_ASK_ANSWER 512       /* room for an answer; port names are shorter */

#endif
