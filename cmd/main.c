/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qdedup COMMAND: the table of commands and what comes before and after each of them.
 *
 *	descriptors 0..2 open -> signals -> global options -> command -> stdout flushed
 *
 * A new command is one row here, one file, one man page.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"

static const struct cmd commands[] = {
	{ "check", "find out what is wrong with an image", cmd_check, CMD_JSON, 1 },
	{ "convert", "copy a disk into a new image, deduplicated", cmd_convert, CMD_WRITES | CMD_JSON, 1 },
	{ "compact", "make the file shorter: move clusters into its holes", cmd_compact,
	  CMD_WRITES | CMD_JSON, 1 },
	{ "compare", "do two images hold the same disk?", cmd_compare, CMD_JSON, 2 },
	{ "create", "make an empty image", cmd_create, CMD_WRITES, 1 },
	{ "dedup", "store equal clusters once, in place", cmd_dedup, CMD_WRITES | CMD_JSON, 1 },
	{ "info", "what an image says about itself", cmd_info, CMD_JSON, 1 },
	{ "io", "read and write parts of a disk, for scripts and tests", cmd_io, CMD_WRITES, 1 },
	{ "journal", "look at the journal of an index, replay it, pack it, make one", cmd_journal,
	  CMD_WRITES | CMD_JSON, 1 },
	{ "map", "where the parts of a disk lie", cmd_map, CMD_JSON, 1 },
	{ "measure", "how large a new image will be", cmd_measure, CMD_JSON, 1 },
	{ "rehash", "make the stored hash table anew, or drop it", cmd_rehash, CMD_WRITES | CMD_JSON, 1 },
	{ "scan", "what deduplication would save, by cluster size and image", cmd_scan, CMD_JSON, 1 },
	{ "stats", "what is shared, saved, leaked and scattered in images", cmd_stats, CMD_JSON, 1 },
	{ "verify", "read every cluster and compare it with its stored hash", cmd_verify, CMD_JSON, 1 },
};

#define NCOMMANDS (sizeof(commands) / sizeof(commands[0]))

enum { OPT_VERSION = 1, OPT_HELP };

static const struct poptOption global_options[] = {
	{ "version", '\0', POPT_ARG_NONE, NULL, OPT_VERSION, "print the version", NULL },
	{ "help", 'h', POPT_ARG_NONE, NULL, OPT_HELP, "show this help", NULL },
	POPT_TABLEEND
};

static const struct cmd *find_command(const char *name)
{
	for (size_t i = 0; i < NCOMMANDS; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static void list_commands(const char *title, unsigned writes)
{
	for (size_t i = 0; i < NCOMMANDS; i++) {
		if ((commands[i].caps & CMD_WRITES) != writes)
			continue;
		if (title)
			printf("\n%s\n", title);
		title = NULL;
		printf("  %-10s %s\n", commands[i].name, commands[i].summary);
	}
}

static int show_help(void)
{
	printf("Usage: qdedup [--version | --help] COMMAND [OPTIONS] ARGUMENTS\n"
	       "\n"
	       "Makes qcow2 disk images smaller by storing equal clusters once, and tells what\n"
	       "is in them.  What it writes is plain qcow2 that any QEMU reads and writes.\n");
	list_commands("Commands that write an image:", CMD_WRITES);
	list_commands("Commands that only read:", 0);
	printf("\nOptions:\n");
	for (const struct poptOption *row = global_options; row->longName; row++) {
		char letter[] = "    ";

		if (row->shortName)
			snprintf(letter, sizeof(letter), "-%c, ", row->shortName);
		printf("  %s--%-8s %s\n", letter, row->longName, row->descrip);
	}
	printf("\n'qdedup COMMAND --help' or 'qdedup help COMMAND' shows a command's options.\n");
	return 0;
}

/* True when the caller wants JSON: looked for before parsing, which may be what fails. */
static bool wants_json(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--output=json") == 0 ||
		    (strcmp(argv[i], "--output") == 0 && i + 1 < argc && strcmp(argv[i + 1], "json") == 0))
			return true;
	return false;
}

static int run_command(const char *name, int argc, char **argv)
{
	const struct cmd *cmd = find_command(name);

	if (!cmd)
		return report_usage("unknown command '%s'", name);
	report_begin(cmd, (cmd->caps & CMD_JSON) && wants_json(argc, argv));
	return cmd->run(argc, argv);
}

/* "help", "help COMMAND" */
static int run_help(int argc, char **argv)
{
	static char option[] = "--help";
	char *help[] = { argc > 1 ? argv[1] : NULL, option, NULL };

	if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return show_help();
	if (argc > 2)
		return report_usage("help: '%s' is one argument too many, expected COMMAND", argv[2]);
	return run_command(argv[1], 2, help);
}

static int dispatch(int nargs, const char **args)
{
	/* popt and the commands share one argv type; neither writes to the strings. */
	char **argv = (char **)(uintptr_t)args;

	if (nargs == 0)
		return report_usage("no command given");
	if (strcmp(args[0], "help") == 0)
		return run_help(nargs, argv);
	return run_command(args[0], nargs, argv);
}

static int run(int argc, char **argv)
{
	poptContext con;
	const char **args;
	int status = 1;
	int nargs = 0;
	int val;

	con = poptGetContext(NULL, argc, (const char **)argv, global_options, POPT_CONTEXT_POSIXMEHARDER);
	if (!con) {
		struct qd_err err;

		qd_err_nomem(&err, "options");
		return report_error(&err);
	}
	val = poptGetNextOpt(con);
	if (val == OPT_VERSION) {
		printf("qdedup %s\n", QD_VERSION);
		status = 0;
	} else if (val == OPT_HELP) {
		status = show_help();
	} else if (val < -1) {
		status = report_usage("%s: %s", poptBadOption(con, 0), poptStrerror(val));
	} else {
		args = poptGetArgs(con);
		while (args && args[nargs])
			nargs++;
		status = dispatch(nargs, args);
	}
	poptFreeContext(con);
	return status;
}

/*
 * A descriptor 0, 1 or 2 that is closed would be given to the next file opened, and what
 * is printed would land in an image.  The stand-ins fail on use.
 */
static bool open_standard_fds(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd)
			return false;
	return true;
}

int main(int argc, char **argv)
{
	if (!open_standard_fds())
		return 1;
	/* popt would let these change where options may stand. */
	unsetenv("POSIXLY_CORRECT");
	unsetenv("POSIX_ME_HARDER");
	signals_init();
	return output_finish(run(argc, argv));
}
