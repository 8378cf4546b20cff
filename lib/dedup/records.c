/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Record number i lies at byte i * size of one array: the part below the budget in
 * memory, the rest in the file.
 */
#include "dedup/records.h"

#include <stdlib.h>
#include <string.h>

#include "base/bigarray.h"
#include "base/io_file.h"
#include "base/tmpfile.h"

struct qd_records {
	uint32_t nbytes;
	uint64_t in_memory;		/* records below this number */
	struct qd_bigarray array;
	const char *tmpdir;
	struct qd_io *file;
};

int qd_records_new(uint32_t record_nbytes, uint64_t memory, const char *tmpdir, struct qd_records **ret_rec,
		   struct qd_err *err)
{
	struct qd_records *rec = calloc(1, sizeof(*rec));

	if (!rec)
		return qd_err_nomem(err, "hash records");
	rec->nbytes = record_nbytes;
	rec->in_memory = memory / record_nbytes;
	rec->tmpdir = tmpdir;
	*ret_rec = rec;
	return 0;
}

void qd_records_free(struct qd_records *rec)
{
	if (!rec)
		return;
	qd_bigarray_free(&rec->array);
	qd_io_close(rec->file);
	free(rec);
}

int qd_records_put(struct qd_records *rec, uint64_t number, const void *record, struct qd_err *err)
{
	uint64_t off = number * rec->nbytes;
	int r = 0;

	if (number < rec->in_memory) {
		r = qd_bigarray_need(&rec->array, off + rec->nbytes, "hash records", err);
		if (!r)
			memcpy((uint8_t *)rec->array.p + off, record, rec->nbytes);
		return r;
	}
	if (!rec->file)
		r = qd_tmpfile_open(rec->tmpdir, &rec->file, err);
	return r ? r : qd_io_write(rec->file, record, rec->nbytes, off, err);
}

int qd_records_get(struct qd_records *rec, uint64_t number, void *ret_record, struct qd_err *err)
{
	uint64_t off = number * rec->nbytes;

	if (number >= rec->in_memory && rec->file)
		return qd_io_read_padded(rec->file, ret_record, rec->nbytes, off, err);
	if (number >= rec->in_memory || off + rec->nbytes > rec->array.nbytes)
		memset(ret_record, 0, rec->nbytes);
	else
		memcpy(ret_record, (const uint8_t *)rec->array.p + off, rec->nbytes);
	return 0;
}
