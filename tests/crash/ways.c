/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ways.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io_mem.h"

extern char **environ;

static void name_file(char *path, size_t nbytes, const char *suffix)
{
	snprintf(path, nbytes, "state-%ld.%s", (long)getpid(), suffix);
}

static int sys(const char *path, struct qd_err *err)
{
	return qd_err_set(err, QD_E_IO, "%s: %s", path, strerror(errno));
}

static int read_all(const char *path, uint8_t **ret_data, size_t *ret_nbytes, struct qd_err *err)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data = NULL;
	long n = -1;

	if (f && fseek(f, 0, SEEK_END) == 0)
		n = ftell(f);
	if (n >= 0)
		data = malloc((size_t)n + 1);
	if (!data || fseek(f, 0, SEEK_SET) || fread(data, 1, (size_t)n, f) != (size_t)n) {
		sys(path, err);
		free(data);
		data = NULL;
	} else {
		data[n] = 0;
	}
	if (f)
		fclose(f);
	*ret_data = data;
	*ret_nbytes = (size_t)n;
	return data ? 0 : QD_E_IO;
}

int way_load(const char *path, struct qd_io **ret_io, struct qd_err *err)
{
	uint8_t *data;
	size_t nbytes;
	int rc = read_all(path, &data, &nbytes, err);

	if (rc == 0)
		rc = qd_io_mem_new(data, nbytes, true, ret_io, err);
	free(data);
	return rc;
}

static int save(struct qd_io *io, const char *path, struct qd_err *err)
{
	size_t nbytes;
	const uint8_t *data = qd_io_mem_data(io, &nbytes);
	FILE *f = fopen(path, "wb");
	bool good = f && fwrite(data, 1, nbytes, f) == nbytes;

	if (f)
		good = fclose(f) == 0 && good;
	return good ? 0 : sys(path, err);
}

static int load_into(struct qd_io *io, const char *path, struct qd_err *err)
{
	uint8_t *data;
	size_t nbytes;
	int rc = read_all(path, &data, &nbytes, err);

	if (rc == 0)
		rc = qd_io_truncate(io, nbytes, err);
	if (rc == 0)
		rc = qd_io_write(io, data, nbytes, 0, err);
	free(data);
	return rc;
}

/* Runs it with stdout and stderr in the file `log`; *ret_status 256: a signal. */
static int spawn(char *const argv[], const char *log, int *ret_status, struct qd_err *err)
{
	posix_spawn_file_actions_t actions;
	int status = 0, rc;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	posix_spawn_file_actions_adddup2(&actions, 1, 2);
	rc = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (rc)
		return qd_err_set(err, QD_E_IO, "%s: %s", argv[0], strerror(rc));
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	*ret_status = WIFEXITED(status) ? WEXITSTATUS(status) : 256;
	return 0;
}

/* Exit status 0, or `also`. */
static int must(char *const argv[], int also, struct qd_err *err)
{
	char log[64];
	uint8_t *said = NULL;
	size_t nbytes;
	int status = 0, rc;

	name_file(log, sizeof(log), "log");
	rc = spawn(argv, log, &status, err);
	if (rc == 0 && status != 0 && status != also) {
		rc = read_all(log, &said, &nbytes, err);
		if (rc == 0)
			rc = qd_err_set(err, QD_E_IO, "%s %s exits %d: %.300s", argv[0], argv[1], status,
					(const char *)said);
		free(said);
	}
	unlink(log);
	return rc;
}

int way_qemu_check(struct qd_io *io, struct qd_err *err)
{
	char path[64];
	char *repair[] = { "qemu-img", "check", "-q", "-r", "all", "-f", "qcow2", path, NULL };
	char *check[] = { "qemu-img", "check", "-q", "-f", "qcow2", path, NULL };
	int rc;

	name_file(path, sizeof(path), "qcow2");
	rc = save(io, path, err);
	if (rc == 0)
		rc = must(repair, 0, err);
	if (rc == 0)
		rc = must(check, 0, err);
	if (rc == 0)
		rc = load_into(io, path, err);
	unlink(path);
	return rc;
}

int way_qemu_open(struct qd_io *io, struct qd_err *err)
{
	char path[64];
	char *open_it[] = { "qemu-io", "-f", "qcow2", "-c", "read 0 512", path, NULL };
	char *check[] = { "qemu-img", "check", "-q", "-f", "qcow2", path, NULL };
	int rc;

	name_file(path, sizeof(path), "qcow2");
	rc = save(io, path, err);
	if (rc == 0)
		rc = must(open_it, 0, err);
	if (rc == 0)
		rc = must(check, 3, err);
	if (rc == 0)
		rc = load_into(io, path, err);
	unlink(path);
	return rc;
}
