/* Names of the intercepted calls, made from csrc/calls.table: op of struct pt_event -> name. */
#ifndef PORTTRACE_CALLS_H
#define PORTTRACE_CALLS_H
extern const char *const pt_op_names[];
extern const unsigned pt_op_count;
#endif
