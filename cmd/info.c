/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qdedup info: what an image says about itself, as qemu-img's JSON or a page of text.
 */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "cmd.h"
#include "index.h"
#include "ops/info.h"

enum { OPT_BACKING_CHAIN = 256 };

struct info_args {
	struct qd_info_opts opts;
};

static const struct poptOption info_options[] = {
	{ "backing-chain", '\0', POPT_ARG_NONE, NULL, OPT_BACKING_CHAIN,
	  "open and show the backing files too", NULL },
	OPTIONS_GROUP(options_source, "Source:"),
	OPTIONS_GROUP(options_output, "Output:"),
	OPTIONS_INCLUDE(options_common),
	POPT_TABLEEND
};

static int take_option(void *ctx, int val, const char *text, struct qd_err *err)
{
	struct info_args *args = ctx;

	(void)val;
	(void)text;
	(void)err;
	args->opts.backing_chain = true;
	return 0;
}

static const char *compression_name(const struct qd_info *info)
{
	return info->compression_type ? "zstd" : "zlib";
}

/* ---- JSON ---- */

static bool set_text(json_t *object, const char *key, const char *text)
{
	return output_set(object, key, text_json(text));
}

static bool set_bool(json_t *object, const char *key, bool value)
{
	return output_set(object, key, json_boolean(value));
}

static json_t *snapshot_json(const struct qd_info_snapshot *s)
{
	json_t *j = json_object();
	bool good = set_text(j, "id", s->id) && set_text(j, "name", s->name) &&
		    output_set_u64(j, "vm-state-size", s->vm_state_size) &&
		    output_set_u64(j, "date-sec", s->date_sec) &&
		    output_set_u64(j, "date-nsec", s->date_nsec) &&
		    output_set_u64(j, "vm-clock-sec", s->vm_clock_nsec / 1000000000) &&
		    output_set_u64(j, "vm-clock-nsec", s->vm_clock_nsec % 1000000000) &&
		    (!s->has_icount || output_set_u64(j, "icount", s->icount));

	if (good)
		return j;
	json_decref(j);
	return NULL;
}

static json_t *bitmap_json(const struct qd_info_bitmap *b)
{
	json_t *j = json_object(), *flags = json_array();
	bool good = set_text(j, "name", b->name) && output_set_u64(j, "granularity", b->granularity) &&
		    (!b->in_use || json_array_append_new(flags, json_string("in-use")) == 0) &&
		    (!b->enabled || json_array_append_new(flags, json_string("auto")) == 0) &&
		    output_set(j, "flags", json_incref(flags));

	json_decref(flags);
	if (good)
		return j;
	json_decref(j);
	return NULL;
}

static json_t *slot_json(const struct qd_info_luks *l, unsigned i)
{
	json_t *j = json_object();
	bool good = set_bool(j, "active", l->slots[i].active) &&
		    output_set_u64(j, "key-offset", l->slots[i].key_off);

	if (good && l->slots[i].active)
		good = output_set_u64(j, "iters", l->slots[i].iterations) &&
		       output_set_u64(j, "stripes", l->slots[i].stripes);
	if (good)
		return j;
	json_decref(j);
	return NULL;
}

/* "xts-plain64:sha256" is mode, generator and the generator's hash. */
static bool set_luks_mode(json_t *j, const char *text)
{
	size_t mode = strcspn(text, "-");
	const char *rest = text[mode] ? text + mode + 1 : "";
	size_t generator = strcspn(rest, ":");
	char copy[64];
	bool good;

	snprintf(copy, sizeof(copy), "%.*s", (int)mode, text);
	good = set_text(j, "cipher-mode", copy);
	if (good && *rest) {
		snprintf(copy, sizeof(copy), "%.*s", (int)generator, rest);
		good = set_text(j, "ivgen-alg", copy);
	}
	if (good && rest[generator])
		good = set_text(j, "ivgen-hash-alg", rest + generator + 1);
	return good;
}

static bool set_luks(json_t *j, const struct qd_info_luks *l)
{
	json_t *slots = json_array();
	char cipher[64];
	bool good;

	/* XTS takes two keys of the length the name tells. */
	snprintf(cipher, sizeof(cipher), "%s-%u", l->cipher,
		 !strncmp(l->mode, "xts", 3) ? l->key_nbytes * 4 : l->key_nbytes * 8);
	good = set_text(j, "cipher-alg", cipher) && set_luks_mode(j, l->mode) &&
	       set_text(j, "hash-alg", l->hash) &&
	       set_text(j, "uuid", l->uuid) && output_set_u64(j, "payload-offset", l->payload_off) &&
	       output_set_u64(j, "master-key-iters", l->iterations);
	for (unsigned i = 0; good && i < QD_LUKS_SLOTS; i++)
		good = json_array_append_new(slots, slot_json(l, i)) == 0;
	good = good && output_set(j, "slots", json_incref(slots));
	json_decref(slots);
	return good;
}

static bool set_encryption(json_t *data, const struct qd_info *info)
{
	json_t *j = json_object();
	bool good = set_text(j, "format", info->luks ? "luks" : "aes") &&
		    (!info->luks || set_luks(j, info->luks)) &&
		    output_set(data, "encrypt", json_incref(j));

	json_decref(j);
	return good;
}

static bool set_bitmaps(json_t *data, const struct qd_info *info)
{
	json_t *list = json_array();
	bool good = list != NULL;

	for (size_t i = 0; good && i < info->nbitmaps; i++)
		good = json_array_append_new(list, bitmap_json(&info->bitmaps[i])) == 0;
	good = good && output_set(data, "bitmaps", json_incref(list));
	json_decref(list);
	return good;
}

static bool set_specific(json_t *root, const struct qd_info *info)
{
	json_t *outer = json_object(), *data = json_object();
	bool good = set_text(data, "compat", info->version == 2 ? "0.10" : "1.1") &&
		    set_text(data, "compression-type", compression_name(info)) &&
		    output_set_u64(data, "refcount-bits", info->refcount_bits);

	if (good && info->version > 2)
		good = set_bool(data, "lazy-refcounts", info->lazy_refcounts) &&
		       set_bool(data, "corrupt", info->corrupt) &&
		       set_bool(data, "extended-l2", info->extended_l2);
	if (good && info->nbitmaps)
		good = set_bitmaps(data, info);
	if (good && info->has_data_file)
		good = (!info->data_file || set_text(data, "data-file", info->data_file)) &&
		       set_bool(data, "data-file-raw", info->data_file_raw);
	if (good && info->encrypted)
		good = set_encryption(data, info);
	good = good && set_text(outer, "type", "qcow2") && output_set(outer, "data", json_incref(data)) &&
	       output_set(root, "format-specific", json_incref(outer));
	json_decref(data);
	json_decref(outer);
	return good;
}

static bool set_backing(json_t *root, const struct qd_info *info)
{
	return !info->backing_name ||
	       (set_text(root, "backing-filename", info->backing_name) &&
		set_text(root, "full-backing-filename", info->backing_path) &&
		(!info->backing_format || set_text(root, "backing-filename-format", info->backing_format)));
}

static bool set_snapshots(json_t *root, const struct qd_info *info)
{
	json_t *list = json_array();
	bool good = list != NULL;

	for (size_t i = 0; good && i < info->nsnapshots; i++)
		good = json_array_append_new(list, snapshot_json(&info->snapshots[i])) == 0;
	good = good && output_set(root, "snapshots", json_incref(list));
	json_decref(list);
	return good;
}

static json_t *info_json(const struct qd_info *info)
{
	json_t *root = json_object();
	bool good = output_set_u64(root, "virtual-size", info->virtual_size) &&
		    set_text(root, "filename", info->path) &&
		    set_text(root, "format", info->format) &&
		    output_set_u64(root, "actual-size", info->actual_size) &&
		    set_bool(root, "dirty-flag", info->dirty);

	if (good && info->is_qcow2)
		good = output_set_u64(root, "cluster-size", info->cluster_size) && set_specific(root, info) &&
		       set_backing(root, info) && (!info->encrypted || set_bool(root, "encrypted", true)) &&
		       (!info->nsnapshots || set_snapshots(root, info)) &&
		       (!info->has_shared_clusters ||
			output_set_u64(root, "shared-clusters", info->shared_clusters)) &&
		       output_set(root, "index", index_json(&info->index));
	if (good)
		return root;
	json_decref(root);
	return NULL;
}

static json_t *chain_json(const struct qd_info *info)
{
	json_t *list = json_array();

	for (; list && info; info = info->backing) {
		if (json_array_append_new(list, info_json(info))) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

/* ---- text ---- */

static void put_row(const char *label, const char *text)
{
	printf("%-18s ", label);
	text_put(stdout, text);
	putchar('\n');
}

static void put_size(const char *label, uint64_t nbytes)
{
	char text[QD_SIZE_TEXT];

	printf("%-18s %s (%" PRIu64 " bytes)\n", label, qd_size_format(nbytes, text, sizeof(text)), nbytes);
}

static void put_state(const struct qd_info *info)
{
	if (info->corrupt)
		put_row("state:", "corrupt: QEMU refuses to write to it; see qdedup check");
	else if (info->dirty)
		put_row("state:",
			"not closed properly (dirty): the next QEMU that opens it for writing repairs it");
}

static void put_layout(const struct qd_info *info)
{
	printf("%-18s qcow2 %s, %u-bit refcounts%s%s, %s compression\n", "layout:",
	       info->version == 2 ? "0.10" : "1.1",
	       info->refcount_bits, info->lazy_refcounts ? " (lazy)" : "",
	       info->extended_l2 ? ", extended L2" : "",
	       compression_name(info));
	put_size("cluster size:", info->cluster_size);
	if (info->has_shared_clusters)
		printf("%-18s %" PRIu64 "\n", "shared clusters:", info->shared_clusters);
}

static void put_names(const struct qd_info *info)
{
	if (info->encrypted)
		printf("%-18s %s\n", "encryption:", info->luks ? "LUKS" : "AES (legacy)");
	if (info->has_data_file) {
		put_row("data file:", info->data_file ? info->data_file : "(not named)");
		if (info->data_file_raw)
			put_row("", "readable as a raw image");
	}
	if (!info->backing_name)
		return;
	put_row("backing file:", info->backing_name);
	if (strcmp(info->backing_name, info->backing_path))
		put_row("  which is:", info->backing_path);
	put_row("  format:",
		info->backing_format ? info->backing_format : "not recorded (the content decides)");
}

static void put_snapshots(const struct qd_info *info)
{
	char date[32], size[QD_SIZE_TEXT], state[QD_SIZE_TEXT];
	struct tm tm;

	if (!info->nsnapshots)
		return;
	printf("snapshots:\n  %-4s %-19s %10s %10s  %s\n", "ID", "DATE", "DISK", "VM STATE", "NAME");
	for (size_t i = 0; i < info->nsnapshots; i++) {
		const struct qd_info_snapshot *s = &info->snapshots[i];
		time_t t = s->date_sec;

		if (!localtime_r(&t, &tm) || !strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm))
			strcpy(date, "?");
		printf("  ");
		text_put(stdout, s->id);
		printf("%*s %-19s %10s %10s  ", strlen(s->id) < 4 ? (int)(4 - strlen(s->id)) : 0, "",
		       s->is_pin ? "-" : date,
		       s->is_pin ? "-" : qd_size_format(s->disk_size, size, sizeof(size)),
		       s->is_pin ? "-" : qd_size_format(s->vm_state_size, state, sizeof(state)));
		text_put(stdout, s->name);
		puts(s->is_pin ? " (keeps shared clusters shared; no disk)" : "");
	}
}

static void put_bitmaps(const struct qd_info *info)
{
	char size[QD_SIZE_TEXT];

	if (info->nbitmaps)
		puts("bitmaps:");
	for (size_t i = 0; i < info->nbitmaps; i++) {
		const struct qd_info_bitmap *b = &info->bitmaps[i];

		printf("  ");
		text_put(stdout, b->name);
		printf(": granularity %s%s%s\n", qd_size_format(b->granularity, size, sizeof(size)),
		       b->enabled ? ", recording" : ", disabled", b->in_use ? ", inconsistent (in use)" : "");
	}
}

static void print_human(const struct qd_info *info)
{
	put_row("image:", info->path);
	put_row("format:", info->format);
	put_size("virtual size:", info->virtual_size);
	put_size("size on disk:", info->actual_size);
	if (!info->is_qcow2)
		return;
	put_state(info);
	put_layout(info);
	index_put(&info->index);
	put_names(info);
	put_snapshots(info);
	put_bitmaps(info);
}

static int run(const struct options *o, struct info_args *args)
{
	struct qd_info *info = NULL;
	struct qd_err err;
	int status = 0;

	args->opts.format = o->source_format;
	args->opts.force_share = o->force_share;
	args->opts.untrusted = o->untrusted;
	qd_err_clear(&err);
	if (qd_info_get(o->args[0], &args->opts, &info, &err))
		return report_error(&err);
	for (const struct qd_info *i = info; i; i = i->backing)
		if (*i->warning)
			report_warning(i->path, "%s", i->warning);
	if (o->json)
		status = output_json(args->opts.backing_chain ? chain_json(info) : info_json(info));
	for (const struct qd_info *i = o->json ? NULL : info; i; i = i->backing) {
		print_human(i);
		if (i->backing)
			putchar('\n');
	}
	qd_info_free(info);
	return status;
}

int cmd_info(int argc, char **argv)
{
	static const struct cmd_syntax syntax = {
		.table = info_options, .arguments = "IMAGE", .min_args = 1, .max_args = 1,
		.handle = take_option,
	};
	struct info_args args = { 0 };
	struct options o;
	int status = options_parse(&o, &syntax, argc, argv, &args);

	if (status == OPTIONS_GO)
		status = run(&o, &args);
	options_free(&o);
	return status;
}
