/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU's image locks (block/file-posix.c), so that a running VM and qdedup exclude
 * each other in both directions.
 *
 * QEMU has five permissions, here by bit: 0 consistent read, 1 write, 2 write
 * unchanged, 3 resize, 4 graph modification.  For each one it uses, it holds an OFD
 * read lock on byte 100 + bit; for each one it does not let others use, on byte
 * 200 + bit.  Before it goes on it tests (F_OFD_GETLK with a write lock) that nobody
 * refuses what it uses and nobody uses what it refuses.
 *
 *	shared:     uses 0       refuses 1, 3        (what qemu-img's readers do)
 *	exclusive:  uses 0, 1, 3 refuses 0, 1, 2, 3
 *
 * Locks live as long as the open file description.
 */
#ifndef QD_BASE_LOCK_H
#define QD_BASE_LOCK_H

#include "base/err.h"

enum qd_lock_mode { QD_LOCK_SHARED, QD_LOCK_EXCLUSIVE };

/*
 * QD_E_BUSY when another process stands against it; the message says that the image
 * is in use and, for a shared lock, that --force-share reads it all the same.  File
 * systems without such locks are no error.  After an error fd holds no lock.
 */
int qd_lock_fd(int fd, enum qd_lock_mode mode, struct qd_err *err);

#endif
