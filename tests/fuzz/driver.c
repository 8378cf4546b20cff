/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs a fuzz target without libFuzzer:
 *
 *	fuzz_X [--random N SEED] PATH...	every file, then N mutations of them
 *	fuzz_X --write K SEED PATH...		mutation number K to standard output
 *
 * A PATH is a file or a directory (its files, in the order of their names).  Mutation K
 * depends on K, SEED and the files alone, so that a failure of one run is repeated by
 * the next.  An input that crashes or takes a minute is named before the process dies.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILE (64u << 20)
#define TIME_LIMIT 60	/* seconds for one input */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* There only when a sanitizer is linked in; it ends the process without a signal. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

struct input {
	char *path;
	uint8_t *data;
	size_t size;
};

static struct input *inputs;
static size_t input_count;
static char current[4096];	/* what runs now, for the message of name_input */

static void die(const char *what, const char *path)
{
	fprintf(stderr, "%s: %s\n", path, what);
	exit(2);
}

static void name_input(void)
{
	ssize_t n = write(STDERR_FILENO, current, strlen(current));

	(void)n;
}

static void on_signal(int sig)
{
	name_input();
	signal(sig, SIG_DFL);
	raise(sig);
}

static void name_input_on_death(void)
{
	static const int signals[] = { SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGALRM };

	if (__sanitizer_set_death_callback)
		__sanitizer_set_death_callback(name_input);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		signal(signals[i], on_signal);
}

/* ---- inputs ------------------------------------------------------------------------ */

static void load_file(const char *path, const struct stat *st)
{
	struct input in = { .path = strdup(path), .size = (size_t)st->st_size };
	FILE *f = fopen(path, "rb");
	struct input *more = realloc(inputs, (input_count + 1) * sizeof(*inputs));

	if (!f)
		die(strerror(errno), path);
	if (st->st_size > MAX_FILE)
		die("larger than 64 MiB", path);
	in.data = malloc(in.size ? in.size : 1);
	if (!in.path || !in.data || !more)
		die("out of memory", path);
	if (fread(in.data, 1, in.size, f) != in.size)
		die("cannot read all of it", path);
	fclose(f);
	inputs = more;
	inputs[input_count++] = in;
}

static void load_path(const char *path);

static void load_directory(const char *path)
{
	struct dirent **names;
	int count = scandir(path, &names, NULL, alphasort);

	if (count < 0)
		die(strerror(errno), path);
	for (int i = 0; i < count; i++) {
		char *full = NULL;

		if (names[i]->d_name[0] != '.') {
			if (asprintf(&full, "%s/%s", path, names[i]->d_name) < 0)
				die("out of memory", path);
			load_path(full);
			free(full);
		}
		free(names[i]);
	}
	free(names);
}

static void load_path(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		die(strerror(errno), path);
	if (S_ISDIR(st.st_mode))
		load_directory(path);
	else
		load_file(path, &st);
}

static void run(const uint8_t *data, size_t size)
{
	alarm(TIME_LIMIT);
	LLVMFuzzerTestOneInput(data, size);
	alarm(0);
}

/* ---- mutations --------------------------------------------------------------------- */

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* Headers and table starts matter most: half of the offsets lie in the first 256 bytes. */
static size_t random_offset(uint64_t *state, size_t size)
{
	if (next_random(state) % 2 && size > 256)
		return next_random(state) % 256;
	return next_random(state) % size;
}

/* A number at which decoders change their mind: near 0, a power of two or the maximum. */
static uint64_t random_number(uint64_t *state)
{
	uint64_t base = 1ull << next_random(state) % 64;

	switch (next_random(state) % 4) {
	case 0:
		return next_random(state) % 16;
	case 1:
		return base + next_random(state) % 5 - 2;
	case 2:
		return 0 - next_random(state) % 16;
	default:
		return next_random(state);
	}
}

static void put_number(uint8_t *data, size_t size, uint64_t *state)
{
	size_t width = (size_t)1 << next_random(state) % 4;
	size_t off = random_offset(state, size) / width * width;
	uint64_t value = random_number(state);

	for (size_t i = 0; i < width && off + i < size; i++)
		data[off + i] = (uint8_t)(value >> 8 * (width - 1 - i));
}

static void copy_piece(uint8_t *data, size_t size, uint64_t *state)
{
	size_t from = random_offset(state, size);
	size_t to = random_offset(state, size);
	size_t room = size - (from > to ? from : to);
	size_t nbytes = 1 + next_random(state) % (room < 64 ? room : 64);

	memmove(data + to, data + from, nbytes);
}

static void mutate_once(uint8_t *data, size_t *size, uint64_t *state)
{
	if (*size == 0)
		return;
	switch (next_random(state) % 8) {
	case 0:
		data[random_offset(state, *size)] ^= (uint8_t)(1u << next_random(state) % 8);
		break;
	case 1:
		copy_piece(data, *size, state);
		break;
	case 2:
		if (next_random(state) % 4 == 0)
			*size = random_offset(state, *size);
		break;
	default:
		put_number(data, *size, state);
	}
}

/* Mutation number k; the caller frees the data, which end with their buffer: a read past them is seen. */
static struct input mutation(uint64_t k, uint64_t seed)
{
	uint64_t state = seed * 0x2545f4914f6cdd1du ^ k;
	const struct input *from = &inputs[next_random(&state) % input_count];
	struct input m = { .path = from->path, .size = from->size };
	uint64_t times = 1 + next_random(&state) % 8;

	m.data = malloc(m.size ? m.size : 1);
	if (!m.data)
		die("out of memory", m.path);
	memcpy(m.data, from->data, m.size);
	while (times-- > 0)
		mutate_once(m.data, &m.size, &state);
	if (m.size < from->size) {
		uint8_t *cut = malloc(m.size ? m.size : 1);

		if (!cut)
			die("out of memory", m.path);
		memcpy(cut, m.data, m.size);
		free(m.data);
		m.data = cut;
	}
	return m;
}

static void run_mutations(uint64_t count, uint64_t seed)
{
	for (uint64_t k = 0; k < count; k++) {
		struct input m = mutation(k, seed);

		snprintf(current, sizeof(current), "failed: mutation %" PRIu64 " of seed %" PRIu64
			 ", made from %s (--write %" PRIu64 " %" PRIu64 " prints it)\n",
			 k, seed, m.path, k, seed);
		run(m.data, m.size);
		free(m.data);
	}
}

static void write_mutation(uint64_t k, uint64_t seed)
{
	struct input m = mutation(k, seed);

	if (fwrite(m.data, 1, m.size, stdout) != m.size || fflush(stdout) != 0)
		die(strerror(errno), "standard output");
	free(m.data);
}

/* ---- command line ------------------------------------------------------------------ */

static uint64_t number(const char *text)
{
	char *end;
	uint64_t v = strtoull(text, &end, 0);

	if (end == text || *end)
		die("not a number", text);
	return v;
}

int main(int argc, char **argv)
{
	bool random = argc > 3 && strcmp(argv[1], "--random") == 0;
	bool print = argc > 3 && strcmp(argv[1], "--write") == 0;
	int first = random || print ? 4 : 1;

	for (int i = first; i < argc; i++)
		load_path(argv[i]);
	if (input_count == 0) {
		fprintf(stderr, "no input; usage: %s [--random N SEED | --write K SEED] FILE|DIRECTORY...\n",
			argv[0]);
		return 2;
	}
	if (print) {
		write_mutation(number(argv[2]), number(argv[3]));
	} else {
		name_input_on_death();
		for (size_t i = 0; i < input_count; i++) {
			snprintf(current, sizeof(current), "failed: %s\n", inputs[i].path);
			run(inputs[i].data, inputs[i].size);
		}
		if (random)
			run_mutations(number(argv[2]), number(argv[3]));
	}
	for (size_t i = 0; i < input_count; i++) {
		free(inputs[i].path);
		free(inputs[i].data);
	}
	free(inputs);
	return 0;
}
