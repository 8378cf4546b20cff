/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How commands show an image's hash table and journal.
 */
#include <inttypes.h>

#include "cmd.h"
#include "index.h"

json_t *index_json(const struct qd_index_info *i)
{
	json_t *j = json_object();
	bool good = output_set(j, "state", json_string(i->state)) &&
		    (!i->location || (output_set(j, "location", json_string(i->location)) &&
				      (!i->hash || output_set(j, "hash", json_string(i->hash))) &&
				      (!i->has_entries || output_set_u64(j, "entries", i->entries)) &&
				      output_set_u64(j, "bytes", i->nbytes) &&
				      output_set_u64(j, "generation", i->generation))) &&
		    (!*i->why || output_set(j, "reason", text_json(i->why)));

	if (good)
		return j;
	json_decref(j);
	return NULL;
}

json_t *journal_json(const struct qd_index_info *i)
{
	json_t *j = json_object();
	bool good = output_set(j, "state", json_string(i->journal ? i->journal : "absent"));

	if (good && i->journal_nbytes)
		good = output_set_u64(j, "bytes", i->journal_nbytes) &&
		       output_set_u64(j, "used", i->journal_used) &&
		       output_set_u64(j, "entries", i->journal_entries) &&
		       output_set_u64(j, "live", i->journal_live);
	if (good)
		return j;
	json_decref(j);
	return NULL;
}

static const char *meaning(const struct qd_index_info *i)
{
	switch (*i->state) {
	case 'v':
		return "every hash holds";
	case 'p':
		return "somebody else may have written: hashes of pinned clusters hold; see qdedup rehash";
	case 's':
		return "no hash holds; see qdedup rehash";
	default:
		return "";
	}
}

void index_put(const struct qd_index_info *i)
{
	char size[QD_SIZE_TEXT];

	if (*i->state == 'a') {
		printf("%-18s none\n", "index:");
		return;
	}
	printf("%-18s %s (%s)", "index:", i->state, meaning(i));
	if (*i->why) {
		printf("; ");
		text_put(stdout, i->why);
	}
	putchar('\n');
	if (!i->location)
		return;
	printf("%-18s ", "");
	if (i->has_entries)
		printf("%" PRIu64 " ", i->entries);
	printf("hashes (%s), %s %s, generation %" PRIu64 "\n", i->hash ? i->hash : "unknown",
	       qd_size_format(i->nbytes, size, sizeof(size)),
	       *i->location == 'f' ? "in a file of its own" : "in the image",
	       i->generation);
}

void journal_put(const struct qd_index_info *i)
{
	char size[QD_SIZE_TEXT], used[QD_SIZE_TEXT];

	if (!i->journal_nbytes || !i->journal)
		return;
	printf("%-18s %s, %s of %s used, %" PRIu64 " entries, %" PRIu64 " live\n", "journal:", i->journal,
	       qd_size_format(i->journal_used, used, sizeof(used)),
	       qd_size_format(i->journal_nbytes, size, sizeof(size)),
	       i->journal_entries, i->journal_live);
}
