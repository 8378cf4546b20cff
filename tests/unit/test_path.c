/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/path.h"
#include "scratch.h"
#include "suites.h"

#define NITEMS(a) (sizeof(a) / sizeof((a)[0]))

/* d and d/e are directories, l is a link to d/e, f is a file. */
static const struct { const char *path, *tidy; } paths[] = {
	{ "f", "f" }, { "./f", "f" }, { ".//./f", "f" }, { "d/../f", "f" }, { "d/e/../../f", "f" },
	{ "d/./e//../f", "d/f" }, { "../f", "../f" }, { "../../f", "../../f" }, { "d/../../f", "../f" },
	{ "l/../f", "l/../f" }, { "d/../l/../f", "l/../f" }, { "l/../e/../f", "l/../f" },
	{ "l/../d/../f", "l/../d/../f" },
	{ "gone/../f", "gone/../f" }, { "f/../f", "f/../f" },
	{ "/f", "/f" }, { "//f", "/f" }, { "/./f", "/f" }, { "/tmp/../f", "/f" }, { "/", "/" }, { "/..", "/.." },
	{ ".", "." }, { "", "." }, { "d/..", "." }, { "d/", "d" }, { "...", "..." }, { "d/..f", "d/..f" },
};

static void leads_to_the_same_file(void)
{
	char *back = getcwd(NULL, 0);
	struct scratch s;

	scratch_open(&s);
	CU_ASSERT_FATAL(back && chdir(s.dir) == 0);
	CU_ASSERT_FATAL(mkdir("d", 0700) == 0 && mkdir("d/e", 0700) == 0 && symlink("d/e", "l") == 0);
	for (size_t i = 0; i < NITEMS(paths); i++) {
		char *tidy = NULL;

		CU_ASSERT_FATAL(qd_path_tidy(paths[i].path, &tidy, NULL) == 0);
		CU_ASSERT_STRING_EQUAL(tidy, paths[i].tidy);
		free(tidy);
	}
	CU_ASSERT(chdir(back) == 0);
	scratch_close(&s);
	free(back);
}

CU_ErrorCode suite_path(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(leads_to_the_same_file),
	};

	return QD_SUITE_ADD("path", tests);
}
