/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For `make lint` only: tells clang's analyzer, which sees one file at a time, that
 * the functions of base/err.h return the code they are given, so that it does not
 * follow paths on which an error was set and success returned.
 */
#include "base/err.h"

#define qd_err_set(err, code, ...) ((void)(qd_err_set)(err, code, __VA_ARGS__), (code))
#define qd_err_sys(...) ((void)(qd_err_sys)(__VA_ARGS__), QD_E_IO)
#define qd_err_nomem(...) ((void)(qd_err_nomem)(__VA_ARGS__), QD_E_NOMEM)
#define qd_err_prefix(err, code, ...) ((void)(qd_err_prefix)(err, code, __VA_ARGS__), (code))
#define qd_err_file(err, code, path) ((void)(qd_err_file)(err, code, path), (code))
