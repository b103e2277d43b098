/* What the wrappers need to know of the C library, and nothing that turns a name of ours into a macro. */
#ifndef PORTTRACE_HEADERS_H
#define PORTTRACE_HEADERS_H
#ifdef __APPLE__
#include "headers_darwin.h"
#else
#include "headers_linux.h"
#endif

#include "ops.h"
#include "trace.h"
#endif
