/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The report of a scan as JSON.  Nothing in it depends on how the numbers were come by:
 * a merge of records gives the same text as one run over all images.
 */
#include "scan.h"

static bool put_into(json_t *list, json_t *item, bool good)
{
	if (good)
		return json_array_append_new(list, item) == 0;
	json_decref(item);
	return false;
}

static json_t *place_json(const char *name, const char *snapshot, uint64_t offset)
{
	json_t *j = json_object();
	bool good = output_set(j, "filename", text_json(name)) &&
		    (!snapshot || output_set(j, "snapshot", text_json(snapshot))) &&
		    output_set_u64(j, "offset", offset);

	if (good)
		return j;
	json_decref(j);
	return NULL;
}

static json_t *hex_json(const uint8_t *digest, unsigned nbytes)
{
	char text[2 * QD_SCAN_DIGEST_MAX + 1];

	for (unsigned i = 0; i < nbytes; i++)
		snprintf(text + (size_t)2 * i, 3, "%02x", digest[i]);
	return json_string(text);
}

static json_t *top_json(const struct scan_args *args, const struct qd_scan_report *r,
			const struct qd_scan_size *s)
{
	json_t *list = json_array();

	for (unsigned i = 0; list && i < s->ntop && i < args->top; i++) {
		const struct qd_scan_top *t = &s->top[i];
		json_t *j = json_object();

		if (!put_into(
			    list, j,
			    output_set(j, "hash", hex_json(t->digest, r->digest_nbytes)) &&
				    output_set_u64(j, "references", t->references) &&
				    output_set_u64(j, "cluster-size", s->cluster_size) &&
				    output_set(j, "example", place_json(t->name, t->snapshot, t->offset)))) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *matrix_row(const struct qd_scan_report *r, const struct qd_scan_size *s, unsigned row)
{
	uint64_t clusters = s->matrix[(size_t)row * r->nimages + row];	/* of its own: all that were read */
	json_t *list = json_array();

	for (unsigned i = 0; i < r->nimages; i++) {
		uint64_t common = s->matrix[(size_t)row * r->nimages + i];

		if (json_array_append_new(list,
					  json_real(clusters ? (double)common / (double)clusters : 0))) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *matrix_json(const struct qd_scan_report *r, unsigned k)
{
	json_t *list = json_array();

	for (unsigned row = 0; list && row < r->nimages; row++)
		if (json_array_append_new(list, matrix_row(r, &r->sizes[k], row))) {
			json_decref(list);
			return NULL;
		}
	return list;
}

static json_t *histogram_json(const struct qd_scan_size *s)
{
	json_t *list = json_array();
	unsigned n = QD_SCAN_BUCKETS;

	while (n && !s->histogram[n - 1])
		n--;
	for (unsigned k = 0; k < n; k++) {
		json_t *j = json_object();

		if (!put_into(list, j,
			      output_set_u64(j, "from", 1ull << k) &&
				      output_set_u64(j, "to", (2ull << k) - 1) &&
				      output_set_u64(j, "contents", s->histogram[k]))) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *per_image_json(const struct qd_scan_report *r, unsigned k)
{
	json_t *list = json_array();

	for (unsigned i = 0; list && i < r->nimages; i++) {
		const struct qd_scan_image_count *c = &r->images[i].count[k];
		json_t *j = json_object();

		if (!put_into(list, j,
			      output_set(j, "filename", text_json(r->images[i].name)) &&
				      output_set_u64(j, "clusters", c->clusters) &&
				      output_set_u64(j, "zero", c->zero) &&
				      output_set_u64(j, "inherited", c->inherited) &&
				      output_set_u64(j, "unique", c->distinct) &&
				      output_set_u64(j, "unique-to-image", c->unique_to_image) &&
				      output_set_u64(j, "shared", c->shared))) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *compression_json(const struct scan_args *args, const struct qd_scan_size *s)
{
	struct qd_scan_compressed e = qd_scan_compress_get(args->compress, s);
	json_t *j = json_object();

	if (output_set(j, "type", json_string(qd_scan_compress_type(args->compress))) &&
	    output_set_u64(j, "data-bytes", e.data_nbytes) &&
	    output_set_u64(j, "data-bytes-low", e.data_low) &&
	    output_set_u64(j, "data-bytes-high", e.data_high) &&
	    output_set_u64(j, "total-bytes", e.total_nbytes) &&
	    output_set_u64(j, "saved-bytes", e.saved_nbytes) && output_set(j, "ratio", json_real(e.ratio)) &&
	    output_set_u64(j, "sampled-contents", e.sampled) &&
	    output_set_u64(j, "sampled-bytes", e.sampled_nbytes))
		return j;
	json_decref(j);
	return NULL;
}

static bool set_size(json_t *j, const struct scan_args *args, const struct qd_scan_report *r, unsigned k)
{
	const struct qd_scan_size *s = &r->sizes[k];

	if (r->sample_n > 1 && !(output_set_u64(j, "unique-low", s->unique_low) &&
				 output_set_u64(j, "unique-high", s->unique_high) &&
				 output_set_u64(j, "saved-bytes-low", s->saved_low) &&
				 output_set_u64(j, "saved-bytes-high", s->saved_high)))
		return false;
	return output_set_u64(j, "cluster-size", s->cluster_size) &&
	       output_set_u64(j, "clusters", s->clusters) && output_set_u64(j, "zero", s->zero) &&
	       output_set_u64(j, "inherited", s->inherited) && output_set_u64(j, "unique", s->unique) &&
	       output_set_u64(j, "duplicate", s->duplicate) &&
	       output_set(j, "dedup-ratio", json_real(qd_scan_ratio(s))) &&
	       output_set_u64(j, "saved-bytes", s->saved_nbytes) &&
	       output_set_u64(j, "metadata-bytes", s->metadata_nbytes) &&
	       output_set_u64(j, "total-bytes", s->total_nbytes) &&
	       output_set_u64(j, "shared-contents", s->shared_contents) &&
	       output_set_u64(j, "max-references", s->max_references) &&
	       output_set(j, "references-histogram", histogram_json(s)) &&
	       output_set(j, "per-image", per_image_json(r, k)) &&
	       (!args->compress || output_set(j, "compression", compression_json(args, s))) &&
	       (!args->top || output_set(j, "top", top_json(args, r, s))) &&
	       (!args->matrix || output_set(j, "matrix", matrix_json(r, k)));
}

static json_t *sizes_json(const struct scan_args *args, const struct qd_scan_report *r)
{
	json_t *list = json_array();

	for (unsigned k = 0; list && k < r->nsizes; k++) {
		json_t *j = json_object();

		if (!put_into(list, j, set_size(j, args, r, k))) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *images_json(const struct qd_scan_report *r)
{
	json_t *list = json_array();

	for (unsigned i = 0; list && i < r->nimages; i++) {
		const struct qd_scan_image *im = &r->images[i];
		json_t *j = json_object();

		if (!put_into(list, j, output_set(j, "filename", text_json(im->name)) &&
				       output_set_u64(j, "virtual-size", im->virtual_size) &&
				       output_set_u64(j, "data-bytes", im->data_nbytes) &&
				       output_set_u64(j, "zero-bytes", im->zero_nbytes) &&
				       output_set_u64(j, "inherited-bytes", im->inherited_nbytes) &&
				       output_set_u64(j, "snapshots", im->nsnapshots) &&
				       output_set(j, "backing", json_boolean(im->backing)))) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

/* `top` and `matrix` of the smallest size stand at the root, too. */
json_t *scan_json(const struct scan_args *args, const struct qd_scan_report *r)
{
	json_t *root = json_object();
	bool good =
		output_set(root, "hash", json_string(r->hash)) &&
		output_set(root, "estimate", json_boolean(r->sample_n > 1)) &&
		(r->sample_n <= 1 || output_set_u64(root, "sample", r->sample_n)) &&
		(!r->nshards ||
		 (output_set_u64(root, "shard", r->shard) && output_set_u64(root, "shards", r->nshards))) &&
		(!r->nunreadable || output_set_u64(root, "unreadable", r->nunreadable)) &&
		output_set(root, "images", images_json(r)) &&
		output_set(root, "cluster-sizes", sizes_json(args, r)) &&
		(!r->nsizes || output_set_u64(root, "best-cluster-size", r->sizes[r->best].cluster_size)) &&
		(!r->nsizes || !args->top || output_set(root, "top", top_json(args, r, &r->sizes[0]))) &&
		(!r->nsizes || !args->matrix || output_set(root, "matrix", matrix_json(r, 0)));

	if (good)
		return root;
	json_decref(root);
	return NULL;
}
