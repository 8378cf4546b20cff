/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a sample to the whole.
 *
 * A sample is a part p of the data: stretches, each taken or left by a hash of its place.
 * How much data (by the metadata) lies in each is known of all.  So each content is found
 * with a chance that depends only on M, the number of stretches it occurs in.  How often
 * it occurs within a stretch does not matter, which keeps copies that lie side by side from
 * misleading.  With
 *
 *	d    contents found			F1, F2   of these, in one, two stretches
 *
 *  - F1 / p + (d - F1) is in the mean 1 + (M - 1) (1 - p)^M for each content, never less
 *    than 1: an upper bound of the number of contents.
 *  - d + F1^2 / (2 F2 + F1 p / (1 - p)) is the lower bound of Chao and Lin for samples
 *    without replacement.  It is exact when every content lies in one stretch, or every
 *    one in two; it is the estimate given.
 *
 * Both get a margin of three standard errors of their counts, as large as they can be when
 * a stretch adds between none and all of its clusters.
 */
#include "ops/scan_int.h"

#define ERRORS 3.0		/* standard errors of margin */

/* Square root by Newton's method: libm is not linked for this alone. */
static double root(double v)
{
	double x = v > 1 ? v : 1;

	if (v <= 0)
		return 0;
	for (unsigned i = 0; i < 200; i++) {
		double next = (x + v / x) / 2;

		if (next >= x)
			break;
		x = next;
	}
	return x;
}

static double at_least(double v, double low)
{
	return v > low ? v : low;
}

static double at_most(double v, double high)
{
	return v < high ? v : high;
}

static void sum_stretches(const struct scan *s, double *ret_sampled, double *ret_skipped, double *ret_n)
{
	*ret_sampled = *ret_skipped = *ret_n = 0;
	for (unsigned i = 0; i < s->nviews; i++) {
		if (s->images[s->views[i].image].bad)
			continue;
		*ret_sampled += (double)s->views[i].sampled_nbytes;
		*ret_skipped += (double)s->views[i].skipped_nbytes;
		*ret_n += (double)s->views[i].nsampled;
	}
}

double qd_scan_sampled_part(const struct scan *s)
{
	double sampled, skipped, n;

	sum_stretches(s, &sampled, &skipped, &n);
	return sampled + skipped > 0 ? sampled / (sampled + skipped) : 1;
}

void qd_scan_estimate_views(struct scan *s)
{
	double sampled, skipped, n;

	sum_stretches(s, &sampled, &skipped, &n);
	for (unsigned k = 0; k < s->nsizes; k++) {
		double data = 0, inherited = 0;

		for (unsigned i = 0; i < s->nviews; i++) {
			if (s->images[s->views[i].image].bad)
				continue;
			data += (double)s->views[i].data_nbytes[k];
			inherited += (double)s->views[i].sampled_inherited[k];
		}
		for (unsigned i = 0; sampled > 0 && i < s->nviews; i++) {
			struct scan_view *v = &s->views[i];
			uint64_t rest = v->zero_nbytes[k], more;

			/* What a skipped stretch may hold was counted as zero so far. */
			more = (uint64_t)((double)v->skipped_nbytes * data / sampled);
			more = qd_min_u64(rest, more);
			v->data_nbytes[k] += more;
			rest -= more;
			more = qd_min_u64(rest, (uint64_t)((double)v->skipped_nbytes * inherited / sampled));
			v->inherited_nbytes[k] += more;
			v->zero_nbytes[k] = rest - more;
		}
	}
}

/* Standard error of the sum of what n stretches of the sample add, between none and `most` each. */
static double error_of(double sum, double n, double most, double part)
{
	return root((1 - part) * at_least(sum * most - (n > 0 ? sum * sum / n : 0), 0));
}

/*
 * Where little was read the margin of counts is no help: nothing is known then but that
 * every cluster not read may hold a content of its own, or none.
 */
struct scan_estimate qd_scan_estimate(const struct scan *s, unsigned size, const struct scan_size_count *c)
{
	double sampled, skipped, part, n, most, d, f1, f2, clusters, e, e1, e2, low, mid, high, odds;
	double all;

	sum_stretches(s, &sampled, &skipped, &n);
	if (skipped <= 0)
		return (struct scan_estimate) { c->clusters, c->clusters, c->clusters,
						c->unique,   c->unique,   c->unique };
	all = (double)c->clusters + skipped / (double)s->sizes[size];
	if (sampled <= 0)
		return (struct scan_estimate){ 0, 0, (uint64_t)all, 0, 0, 0 };
	part = sampled / (sampled + skipped);
	odds = part / (1 - part);
	most = (double)s->stretch / (double)s->sizes[size];
	d = (double)c->unique;
	f1 = (double)c->in_one;
	f2 = (double)c->in_two;
	clusters = (double)c->clusters / part;
	e = ERRORS * error_of((double)c->clusters, n, most, part);
	e1 = ERRORS * error_of(f1, n, most, part);
	e2 = ERRORS * error_of(f2, n, most, part);
	mid = f1 > 0 ? d + f1 * f1 / (2 * f2 + odds * f1) : d;
	low = f1 > e1 ? d + (f1 - e1) * (f1 - e1) / (2 * (f2 + e2) + odds * (f1 - e1)) : d;
	high = at_most((f1 + e1) / part + (d - f1), clusters);
	mid = at_most(mid, high);
	return (struct scan_estimate){
		.clusters = (uint64_t)clusters,
		.clusters_low = (uint64_t)at_least((double)c->clusters, clusters - e / part),
		.clusters_high = (uint64_t)(clusters + e / part),
		.unique = (uint64_t)mid,
		.unique_low = (uint64_t)at_most(low, mid),
		.unique_high = (uint64_t)high,
	};
}
