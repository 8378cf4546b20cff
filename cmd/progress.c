/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How far an operation is, for people and for programs, and the place where it learns
 * that it should stop.
 *
 *	terminal      one live line, drawn anew five times a second
 *	elsewhere     a line every ten seconds, for logs
 *	SIGUSR1       a line now, without -p as well
 *	--progress-fd one JSON line at most five times a second; the last one says
 *	              "finished": true, and is missing when the operation failed
 *
 * The callback runs under the lock of struct qd_progress: one call at a time.
 */
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cmd.h"

#define REDRAW_SECONDS 0.2
#define LOG_SECONDS 10.0

static bool line_is_live;	/* the cursor stands at the end of a live line */

static double now_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

void progress_break(void)
{
	if (line_is_live)
		fputc('\n', stderr);
	line_is_live = false;
}

/* "42 s", "3 min 20 s", "2 h 05 min" */
static void format_seconds(double seconds, char *buf, size_t buf_size)
{
	unsigned long s = seconds > 3e9 ? 3000000000ul : (unsigned long)(seconds + 0.5);

	if (s < 60)
		snprintf(buf, buf_size, "%lu s", s);
	else if (s < 3600)
		snprintf(buf, buf_size, "%lu min %02lu s", s / 60, s % 60);
	else
		snprintf(buf, buf_size, "%lu h %02lu min", s / 3600, s % 3600 / 60);
}

static double percent(const struct progress *p)
{
	if (p->total == 0)
		return 0;
	return p->current >= p->total ? 100.0 : (double)p->current * 100.0 / (double)p->total;
}

/* Smooths over about a second, so that holes and caches do not make the number dance. */
static void sample_rate(struct progress *p, double now)
{
	double dt = now - p->sampled;
	double rate;

	if (dt < REDRAW_SECONDS)
		return;
	rate = (double)(p->current - p->sampled_at) / dt;
	p->rate = p->rate > 0 ? p->rate + (rate - p->rate) * (dt > 1.0 ? 0.8 : 0.2) : rate;
	p->sampled = now;
	p->sampled_at = p->current;
}

static void format_line(const struct progress *p, bool done, char *buf, size_t buf_size)
{
	char size[QD_SIZE_TEXT], total[QD_SIZE_TEXT], rate[QD_SIZE_TEXT], left[32];
	double elapsed = now_seconds() - p->begun;
	double per_second = p->rate > 0 && !done ? p->rate : elapsed > 0 ? (double)p->current / elapsed : 0;
	int n;

	qd_size_format(p->current, size, sizeof(size));
	qd_size_format(per_second < 9e18 ? (uint64_t)per_second : 0, rate, sizeof(rate));
	qd_size_format(p->total, total, sizeof(total));
	if (p->total == 0)
		n = snprintf(buf, buf_size, "%s: %s, %s/s", p->operation, size, rate);
	else
		n = snprintf(buf, buf_size, "%s: %5.1f %%, %s of %s, %s/s", p->operation, percent(p), size,
			     total, rate);
	if (n < 0 || (size_t)n >= buf_size)
		return;
	if (done) {
		format_seconds(elapsed, left, sizeof(left));
		snprintf(buf + n, buf_size - (size_t)n, ", took %s", left);
	} else if (per_second > 0 && p->current < p->total) {
		format_seconds((double)(p->total - p->current) / per_second, left, sizeof(left));
		snprintf(buf + n, buf_size - (size_t)n, ", %s left", left);
	}
}

static void draw(struct progress *p, double now, bool live, bool done)
{
	char line[256];

	format_line(p, done, line, sizeof(line));
	if (live)
		fprintf(stderr, "\r%s\033[K", line);
	else
		fprintf(stderr, "%s\n", line);
	line_is_live = live;
	p->drawn = now;
}

static void tell(struct progress *p, double now, bool finished)
{
	if (dprintf(p->fd, "{\"operation\": \"%s\", \"current\": %" PRIu64 ", \"total\": %" PRIu64
			   ", \"finished\": %s}\n",
		    p->operation, p->current, p->total, finished ? "true" : "false") < 0)
		p->fd = -1;	/* nobody reads: SIGPIPE has been noted, if it was that */
	p->told = now;
}

static int on_progress(void *ctx, uint64_t current, uint64_t total)
{
	struct progress *p = ctx;
	double now = now_seconds();

	p->current = current;
	p->total = total;
	sample_rate(p, now);
	if (signals_take_usr1()) {
		progress_break();
		draw(p, now, false, false);
	} else if (p->wanted && now - p->drawn >= (p->terminal ? REDRAW_SECONDS : LOG_SECONDS)) {
		draw(p, now, p->terminal, false);
	}
	if (p->fd >= 0 && (current || total) && now - p->told >= REDRAW_SECONDS)
		tell(p, now, false);	/* before that nothing is known, but ^C is noticed */
	return signals_caught();
}

void progress_start(struct progress *p, const struct options *o, const char *operation)
{
	memset(p, 0, sizeof(*p));
	p->operation = operation;
	p->wanted = o->progress;
	p->terminal = isatty(STDERR_FILENO);
	p->fd = o->progress_fd;
	p->begun = p->drawn = p->sampled = now_seconds();
	qd_progress_init(&p->lib, on_progress, p);
}

void progress_stop(struct progress *p, bool done)
{
	double now = now_seconds();

	if (done && p->total > 0)
		p->current = p->total;
	if (p->wanted && done)
		draw(p, now, p->terminal, true);
	progress_break();
	if (p->fd >= 0 && done)
		tell(p, now, true);
	qd_progress_destroy(&p->lib);
}
