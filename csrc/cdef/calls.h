extern const char *const pt_op_names[];
extern const unsigned pt_op_count;
