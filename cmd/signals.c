/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Signals set flags; the operation sees them through the progress callback, cleans up
 * and returns, and the process exits 128 + signal.
 *
 *	SIGINT SIGTERM SIGHUP   stop; the same again a second later or more: stop dead
 *	SIGPIPE                 stop; the write that met it fails with EPIPE as well
 *	SIGUSR1                 one line of progress
 *	SIGURG                  nothing: it ends the system call a thread waits in
 *
 * "A second later", because timeout(1) and others send a signal to the process and at
 * once again to its group.  What was ignored from the start (nohup) stays ignored,
 * except SIGPIPE, which some callers leave ignored by accident.
 */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cmd.h"

static atomic_int caught;
static atomic_bool usr1;
static atomic_llong caught_at;		/* monotonic milliseconds */
static sem_t stop_wanted;		/* posted once, for the releaser */

static struct {
	bool running;
	atomic_bool fds[2];	/* to be released: 0, 1 */
	int refusals[2];	/* what takes their place: open the wrong way round */
} releaser;

static long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (long long)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void on_usr1(int signo)
{
	(void)signo;
	atomic_store(&usr1, true);
}

static void on_stop(int signo)
{
	int none = 0;

	if (atomic_compare_exchange_strong(&caught, &none, signo)) {
		atomic_store(&caught_at, now_ms());
		sem_post(&stop_wanted);
	} else if (signo != SIGPIPE && now_ms() - atomic_load(&caught_at) >= 1000) {
		signal(signo, SIG_DFL);
		raise(signo);
	}
}

static void watch(int signo, void (*handler)(int), bool even_if_ignored)
{
	struct sigaction sa, old;

	if (!even_if_ignored && sigaction(signo, NULL, &old) == 0 && old.sa_handler == SIG_IGN)
		return;
	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = handler;
	sigemptyset(&sa.sa_mask);
	sigaction(signo, &sa, NULL);
}

static void on_nudge(int signo)
{
	(void)signo;
}

void signals_init(void)
{
	sem_init(&stop_wanted, 0, 0);
	watch(SIGINT, on_stop, false);
	watch(SIGTERM, on_stop, false);
	watch(SIGHUP, on_stop, false);
	watch(SIGPIPE, on_stop, true);
	watch(SIGUSR1, on_usr1, true);
	watch(SIGURG, on_nudge, true);
}

/* Interrupts every other thread's system call, if it waits in one. */
static void nudge_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		int tid = atoi(entry->d_name);

		if (tid > 0 && tid != gettid())
			tgkill(getpid(), tid, SIGURG);
	}
	if (dir)
		closedir(dir);
}

/*
 * Transfers are tried again after EINTR, so the descriptor has to be useless before the
 * wait is ended; a thread about to wait may miss a nudge, hence several.
 */
static void *release_fds(void *unused)
{
	(void)unused;
	while (sem_wait(&stop_wanted) != 0)
		;
	for (int fd = 0; fd < 2; fd++)
		if (releaser.fds[fd])
			dup2(releaser.refusals[fd], fd);
	for (;;) {
		nudge_threads();
		usleep(50000);
	}
	return NULL;
}

/* Without the thread a wait is ended by the second signal only: no reason to fail. */
void signals_release(int fd)
{
	pthread_t thread;

	releaser.refusals[fd] = open("/dev/null", (fd == 0 ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
	if (releaser.refusals[fd] < 0)
		return;
	releaser.fds[fd] = true;
	if (!releaser.running && pthread_create(&thread, NULL, release_fds, NULL) == 0) {
		releaser.running = true;
		pthread_detach(thread);
	}
}

int signals_caught(void)
{
	return atomic_load(&caught);
}

bool signals_take_usr1(void)
{
	return atomic_exchange(&usr1, false);
}

const char *signals_name(int signo)
{
	switch (signo) {
	case SIGINT:
		return "SIGINT";
	case SIGTERM:
		return "SIGTERM";
	case SIGHUP:
		return "SIGHUP";
	case SIGPIPE:
		return "SIGPIPE (a pipe that is written to was closed)";
	default:
		return "a signal";
	}
}
