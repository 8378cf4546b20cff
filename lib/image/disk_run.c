/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What lies where on a disk: runs of one kind, through the backing chain.
 */
#include "image/disk.h"

#include "base/bytes.h"

#define FIRST_LOOK (256u << 10)		/* bytes of a chain asked for first */
/* Data runs at least this long are worth asking the host whether they are holes of its own. */
#define HOST_HOLE_MIN 65536u

static int next_raw(const struct qd_disk *d, uint64_t off, uint64_t max, struct qd_disk_run *run,
		    struct qd_err *err)
{
	uint64_t data, hole;
	int r = qd_io_next_data(d->io, off, &data, &hole, err);

	if (r)
		return r;
	run->layer = d;
	if (data == hole || data > off) {
		run->kind = QD_RUN_ZERO;
		run->nbytes = data == hole ? max : qd_min_u64(max, data - off);
	} else {
		run->kind = QD_RUN_DATA;
		run->nbytes = qd_min_u64(max, hole - off);
	}
	run->host_off = off;
	return 0;
}

static enum qd_run_kind run_kind(enum qd_map_kind kind)
{
	switch (kind) {
	case QD_MAP_ZERO:
		return QD_RUN_ZERO;
	case QD_MAP_DATA:
		return QD_RUN_DATA;
	case QD_MAP_COMPRESSED:
		return QD_RUN_COMPRESSED;
	default:
		return QD_RUN_HOLE;
	}
}

/* The run at guest_off as far as it reaches within nbytes: one look at each layer until one decides. */
static int look(const struct qd_disk *d, uint64_t guest_off, uint64_t nbytes, struct qd_disk_run *ret_run,
		struct qd_err *err)
{
	struct qd_disk_run run = { .guest_off = guest_off, .nbytes = nbytes };
	struct qd_map_run m = { 0 };
	int r;

	for (;; d = d->backing) {
		run.nbytes = qd_min_u64(run.nbytes, d->virtual_size - guest_off);
		run.layer = d;
		if (!d->is_qcow2) {
			r = next_raw(d, guest_off, run.nbytes, &run, err);
			break;
		}
		r = qd_map_get(d->map, guest_off, run.nbytes, &m, err);
		if (r)
			break;
		run.kind = run_kind(m.kind);
		run.nbytes = m.nbytes;
		run.host_off = m.host_off;
		run.entry = m.entry;
		if (m.kind != QD_MAP_UNALLOCATED || !d->backing || guest_off >= d->backing->virtual_size)
			break;
	}
	if (r)
		return qd_err_file(err, r, d->path);
	*ret_run = run;
	return 0;
}

static bool joins(const struct qd_disk_run *run, const struct qd_disk_run *next)
{
	if (next->kind != run->kind || next->layer != run->layer || run->kind == QD_RUN_COMPRESSED)
		return false;
	if (!run->host_off || !next->host_off)
		return run->kind != QD_RUN_DATA && run->host_off == next->host_off;
	return next->host_off == run->host_off + run->nbytes;
}

/*
 * A long run of one layer is in vain where a deeper one cuts it short.  So a chain is asked for
 * little first, and for as much again as long as the run goes on: the time depends on the length
 * of the run that is found, not on what lies behind it.
 */
int qd_disk_next(const struct qd_disk *d, uint64_t guest_off, uint64_t max_nbytes,
		 struct qd_disk_run *ret_run, struct qd_err *err)
{
	uint64_t max = qd_min_u64(max_nbytes, d->virtual_size - guest_off);
	uint64_t asked = d->backing ? qd_min_u64(max, FIRST_LOOK) : max;
	struct qd_disk_run run, next;
	int r = look(d, guest_off, asked, &run, err);

	while (!r && run.nbytes == asked && asked < max) {
		uint64_t more = qd_min_u64(asked, max - asked);

		r = look(d, guest_off + asked, more, &next, err);
		if (r || !joins(&run, &next))
			break;
		run.nbytes += next.nbytes;
		asked += more;
	}
	if (!r)
		*ret_run = run;
	return r;
}

/* Cuts what the host itself knows to be a hole off the front of a data run; may leave nothing. */
static int skip_host_hole(struct qd_disk_run *run, struct qd_err *err)
{
	struct qd_io *io = run->layer->data_io;
	uint64_t data, hole, skip;
	int r;

	if (run->kind != QD_RUN_DATA || run->nbytes < HOST_HOLE_MIN || !run->layer->is_qcow2)
		return 0;
	r = qd_io_next_data(io, run->host_off, &data, &hole, err);
	if (r)
		return r;
	skip = data == hole ? run->nbytes : qd_min_u64(run->nbytes, data - run->host_off);
	run->guest_off += skip;
	run->host_off += skip;
	run->nbytes -= skip;
	if (run->nbytes && hole > run->host_off)
		run->nbytes = qd_min_u64(run->nbytes, hole - run->host_off);
	return 0;
}

int qd_disk_next_data(const struct qd_disk *disk, uint64_t guest_off, uint64_t max_nbytes,
		      uint64_t *ret_off, uint64_t *ret_nbytes, struct qd_err *err)
{
	uint64_t start = disk->virtual_size, nbytes = 0, ask = max_nbytes;
	struct qd_disk_run run;

	while (guest_off < disk->virtual_size && nbytes < max_nbytes) {
		bool is_data;
		int r = qd_disk_next(disk, guest_off, ask, &run, err);

		if (r)
			return r;
		guest_off += run.nbytes;
		is_data = run.kind == QD_RUN_DATA || run.kind == QD_RUN_COMPRESSED;
		/* Zeros are skipped however long; of data no more is looked at than may be told. */
		ask = !is_data && run.nbytes == ask ? disk->virtual_size : max_nbytes;
		if (is_data) {
			uint64_t end = run.guest_off + run.nbytes;

			r = skip_host_hole(&run, err);
			if (r)
				return qd_err_file(err, r, run.layer->path);
			is_data = run.nbytes > 0;
			guest_off = is_data ? run.guest_off + run.nbytes : end;
		}
		if (nbytes && (!is_data || run.guest_off != start + nbytes))
			break;
		if (is_data) {
			if (!nbytes)
				start = run.guest_off;
			nbytes += run.nbytes;
		}
	}
	*ret_off = start;
	*ret_nbytes = qd_min_u64(nbytes, max_nbytes);
	return 0;
}
