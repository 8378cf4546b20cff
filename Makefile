# SPDX-License-Identifier: GPL-2.0-or-later
#
# qdedup: what can be made
#
#   make                 ./qdedup, libqdedup.a and libqdedup.so
#   make demo            install what is missing, build, and show the program on a real disk image
#   make check           install what is missing, build, and run every test
#
#   make check-unit      the unit suites only
#   make check-cli       the command-line tests only; T="tests/cli/010-*.sh" picks some
#   make check-fuzz      the fuzz drivers over their seed inputs
#   make check-layers    the include rules of lib/ and cmd/
#   make check-campaign  random damage and its repair; FIRST=1 SEEDS=2000 say which seeds
#   make check-kill      dedup and compact killed for real, 200 times
#   make check-html      pages of scan --html in headless Chromium; screenshots go to build/html
#   make check-asan      every test on a build with address and undefined-behaviour sanitizers
#   make check-tsan      every test on a build with the thread sanitizer
#   make check-valgrind  every test under valgrind (slow)
#   make fuzz            build the libFuzzer programs (clang) and say how to run them
#   make coverage        every test on an instrumented build; line coverage per file
#   make lint            clang-tidy, cppcheck, shellcheck, headers that stand alone
#   make bench           side by side with qemu-img: time and memory; SIZE=512M for a short run
#
#   make install         PREFIX=/usr/local, DESTDIR empty; make uninstall takes it back
#   make dist            the source as a tar file; make distcheck builds, tests and installs from it
#   make clean           remove everything that was built
#
# CC, AR, CFLAGS, CPPFLAGS, LDFLAGS and LDLIBS are the user's.  WERROR=1 turns warnings into errors,
# V=1 shows the commands, JOBS=N says how many tests run at a time.
# Objects lie in build/<flavour>/, so that the builds above never mix.

VERSION := 0.1.0
SOVERSION := 0

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
DESTDIR ?=
PKG_CONFIG ?= pkg-config
INSTALL ?= install
CFLAGS ?= -O2 -g
FLAVOUR ?= release
NPROC := $(shell nproc 2>/dev/null || echo 2)
JOBS ?= $(NPROC)

# ---- what the sources need -------------------------------------------------------------------

LIB_PKGS := zlib libcrypto libzstd libxxhash libisal libdeflate
PKGS := $(LIB_PKGS) popt jansson
PKGS_missing := $(strip $(foreach p,$(PKGS),$(shell $(PKG_CONFIG) --exists $p 2>/dev/null || echo $p)))
ifeq ($(PKGS_missing),)
PKG_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(PKGS))
PKG_LIBS := $(shell $(PKG_CONFIG) --libs $(PKGS))
LIB_PKG_LIBS := $(shell $(PKG_CONFIG) --libs $(LIB_PKGS))
endif
CUNIT_CFLAGS = $(shell $(PKG_CONFIG) --cflags cunit)
CUNIT_LIBS = $(shell $(PKG_CONFIG) --libs cunit 2>/dev/null || echo -lcunit)

WARN := -Wall -Wextra -Wshadow -Wconversion -Wmissing-prototypes -Wvla
WARN += $(if $(filter 1,$(WERROR)),-Werror)
SANITIZE_asan := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
SANITIZE_tsan := -fsanitize=thread
SANITIZE_coverage := --coverage -O0
SANITIZE_fuzz := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
SANITIZE := $(SANITIZE_$(FLAVOUR))

QD_CPPFLAGS := -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DQD_VERSION='"$(VERSION)"' -Ilib $(PKG_CFLAGS)
QD_CFLAGS := -std=c11 -pthread -fPIC $(WARN)
COMPILE = $(CC) $(QD_CPPFLAGS) $(CPPFLAGS) $(QD_CFLAGS) $(CFLAGS) $(SANITIZE)
LINK = $(CC) -pthread $(CFLAGS) $(LDFLAGS) $(SANITIZE)
LIBS = $(PKG_LIBS) $(LDLIBS)

ifeq ($(V),1)
Q :=
say = @:
else
Q := @
say = @echo
endif

# ---- sources and what becomes of them --------------------------------------------------------

B := build/$(FLAVOUR)
LIB_SRC := $(sort $(wildcard lib/*/*.c))
CMD_SRC := $(sort $(wildcard cmd/*.c))
UNIT_SRC := $(sort $(wildcard tests/unit/*.c tests/crash/recorder.c))
FUZZ_SRC := $(sort $(wildcard tests/fuzz/fuzz_*.c))
FUZZ_COMMON := $(filter-out tests/fuzz/driver.c,$(filter-out $(FUZZ_SRC),$(sort $(wildcard tests/fuzz/*.c))))
CRASH_SRC := $(sort $(wildcard tests/crash/*.c))
FAULT_SRC := $(sort $(wildcard tests/fault/*.c))
TOOL_SRC := $(sort $(wildcard tests/tools/*.c))
HEADERS := $(sort $(wildcard lib/*/*.h))
MAN := $(sort $(wildcard man/*.1 man/*.5))
obj = $(patsubst %.c,$B/%.o,$1)

UNIT := $(if $(UNIT_SRC),$B/tests/unit/unit)
FUZZ_DRIVERS := $(if $(wildcard tests/fuzz/driver.c),$(patsubst tests/fuzz/%.c,$B/fuzz/%,$(FUZZ_SRC)))
CRASH := $(patsubst tests/crash/%.c,$B/crash/%,$(filter tests/crash/crash_%,$(CRASH_SRC)))
FAULT := $(patsubst tests/fault/%.c,$B/fault/%,$(filter tests/fault/fault_%,$(FAULT_SRC)))
BENCH_TOOLS := $(patsubst tests/bench/%.c,$B/bench/%,$(sort $(wildcard tests/bench/*.c)))
FUZZERS := $(patsubst tests/fuzz/%.c,$B/libfuzzer/%,$(FUZZ_SRC))
TOOLS := $(patsubst tests/tools/%.c,build/tools/%,$(TOOL_SRC))
TOOLS += $(patsubst tests/tools/preload/%.c,build/tools/%.so,$(sort $(wildcard tests/tools/preload/*.c)))
SONAME := libqdedup.so.$(SOVERSION)

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:
.SUFFIXES:
.PHONY: all help clean need-libs need-cunit FORCE

ifeq ($(FLAVOUR),release)
all: $(if $(CMD_SRC),qdedup) libqdedup.a libqdedup.so
else
all: $(if $(CMD_SRC),$B/qdedup)
endif

help:
	@sed -n '1,2d; /^#/!q; s/^# \{0,1\}//p' Makefile

clean:
	rm -rf build qdedup libqdedup.a libqdedup.so qdedup-*.tar.gz

ifeq ($(PKGS_missing),)
need-libs: ;
else
need-libs:
	@echo "make: libraries not found by pkg-config: $(PKGS_missing)" >&2
	@tests/setup.sh --print build >&2
	@exit 1
endif

need-cunit: need-libs
	@$(PKG_CONFIG) --exists cunit || { tests/setup.sh --print check >&2; exit 1; }

# A file that changes when the text does: objects depend on the flags, the archive on the list of
# its members, so that neither a new option nor a removed source leaves something stale behind.
define write-if-changed
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$1)' | cmp -s - $@ || printf '%s\n' '$(subst ','\'',$1)' >$@
endef

$B/flags: FORCE
	$(call write-if-changed,$(COMPILE))
$B/lib.list: FORCE
	$(call write-if-changed,$(LIB_SRC))
$B/cmd.list: FORCE
	$(call write-if-changed,$(CMD_SRC))
$B/unit.list: FORCE
	$(call write-if-changed,$(UNIT_SRC))

$B/%.o: %.c $B/flags | need-libs
	@mkdir -p $(@D)
	$(say) "  CC      $<"
	$(Q)$(COMPILE) -MMD -MP -c -o $@ $<

$B/tests/unit/%.o: QD_CPPFLAGS += $(CUNIT_CFLAGS) -Itests/crash
$(call obj,$(UNIT_SRC)): | need-cunit

$B/libqdedup.a: $(call obj,$(LIB_SRC)) $B/lib.list
	$(say) "  AR      $@"
	$(Q)rm -f $@ && $(AR) rcs $@ $(filter %.o,$^)

$B/$(SONAME): $(call obj,$(LIB_SRC)) lib/qdedup.map $B/lib.list
	$(say) "  LD      $@"
	$(Q)$(LINK) -shared -Wl,-soname,$(SONAME) -Wl,-z,defs -Wl,--version-script=lib/qdedup.map \
		-o $@ $(filter %.o,$^) $(LIB_PKG_LIBS) $(LDLIBS)

$B/qdedup: $(call obj,$(CMD_SRC)) $B/libqdedup.a $B/cmd.list
	$(say) "  LD      $@"
	$(Q)$(LINK) -o $@ $(filter %.o %.a,$^) $(LIBS)

$B/tests/unit/unit: $(call obj,$(UNIT_SRC)) $B/libqdedup.a $B/unit.list
	$(say) "  LD      $@"
	$(Q)$(LINK) -o $@ $(filter %.o %.a,$^) $(CUNIT_LIBS) $(LIBS)

$B/tests/crash/%.o: QD_CPPFLAGS += -Itests/crash
$B/crash/%: $B/tests/crash/%.o $(call obj,$(filter-out tests/crash/crash_%,$(CRASH_SRC))) $B/libqdedup.a
	@mkdir -p $(@D)
	$(say) "  LD      $@"
	$(Q)$(LINK) -o $@ $(filter %.o %.a,$^) $(LIBS)

$B/tests/fault/%.o: QD_CPPFLAGS += -Itests/crash
$B/fault/%: $B/tests/fault/%.o $(call obj,$(filter-out tests/fault/fault_%,$(FAULT_SRC)) tests/crash/layers.c \
	tests/crash/ways.c) $B/libqdedup.a
	@mkdir -p $(@D)
	$(say) "  LD      $@"
	$(Q)$(LINK) -o $@ $(filter %.o %.a,$^) $(LIBS)

$B/bench/%: $B/tests/bench/%.o $B/libqdedup.a
	@mkdir -p $(@D)
	$(say) "  LD      $@"
	$(Q)$(LINK) -o $@ $(filter %.o %.a,$^) $(LIBS)

$B/fuzz/%: $B/tests/fuzz/%.o $B/tests/fuzz/driver.o $(call obj,$(FUZZ_COMMON)) $B/libqdedup.a
	@mkdir -p $(@D)
	$(say) "  LD      $@"
	$(Q)$(LINK) -o $@ $(filter %.o %.a,$^) $(LIBS)

$B/libfuzzer/%: $B/tests/fuzz/%.o $(call obj,$(FUZZ_COMMON)) $B/libqdedup.a
	@mkdir -p $(@D)
	$(say) "  LD      $@"
	$(Q)$(LINK) -fsanitize=fuzzer -o $@ $(filter %.o %.a,$^) $(LIBS)

# Helpers of the tests know nothing of the library and are never instrumented.
build/tools/%: tests/tools/%.c
	@mkdir -p $(@D)
	$(say) "  CC      $<"
	$(Q)$(CC) -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 $(CPPFLAGS) $(QD_CFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $<

build/tools/%.so: tests/tools/preload/%.c
	@mkdir -p $(@D)
	$(say) "  CC      $<"
	$(Q)$(CC) -D_GNU_SOURCE $(CPPFLAGS) $(QD_CFLAGS) $(CFLAGS) $(LDFLAGS) -shared -o $@ $< -ldl

-include $(patsubst %.o,%.d,$(call obj,$(LIB_SRC) $(CMD_SRC) $(UNIT_SRC) $(wildcard tests/fuzz/*.c tests/bench/*.c) \
	$(CRASH_SRC) $(FAULT_SRC)))

# Convenient names at the top for what a user runs.
qdedup: $B/qdedup
	$(Q)ln -f $< $@ 2>/dev/null || cp -p $< $@
libqdedup.a: $B/libqdedup.a
	$(Q)ln -f $< $@ 2>/dev/null || cp -p $< $@
libqdedup.so: $B/$(SONAME)
	$(Q)ln -sf $< $@

# ---- tests -----------------------------------------------------------------------------------

.PHONY: demo check check-all check-build check-unit check-cli check-fuzz check-layers check-campaign check-kill \
	check-html check-asan check-tsan check-valgrind check-suite fuzz fuzz-build coverage lint bench
again = $(MAKE) --no-print-directory
# Build on all processors unless the caller gave a -j of his own.
parallel = $(if $(findstring -j,$(MAKEFLAGS)),,-j$(NPROC))
runner = QDEDUP=$(CURDIR)/$(QDEDUP_UNDER_TEST) QD_LIB=$B/libqdedup.a QD_CRASH=$(CURDIR)/$B/crash \
	QD_FAULT=$(CURDIR)/$B/fault QD_BENCH=$(CURDIR)/$B/bench \
	tests/run.sh -j $(JOBS)
QDEDUP_UNDER_TEST = $B/qdedup
RUN_UNIT = $(if $(UNIT),-u $(UNIT_UNDER_TEST))
UNIT_UNDER_TEST = $B/tests/unit/unit
RUN_FUZZ = $(if $(FUZZ_DRIVERS),-f $B/fuzz)
T ?= $(sort $(wildcard tests/cli/[0-9]*.sh))

# The libraries are looked for when make starts, so set-up comes first and make again after it.
check:
	@tests/setup.sh check
	@$(again) check-all

demo:
	@tests/setup.sh demo
	@$(again) $(parallel) all
	@QDEDUP=$(CURDIR)/qdedup tests/demo.sh

check-build: all $B/libqdedup.a $(UNIT) $(FUZZ_DRIVERS) $(CRASH) $(FAULT) $(TOOLS) $(BENCH_TOOLS)

check-all check-suite:
	@$(again) $(parallel) check-build
	@$(runner) $(RUN_UNIT) -l $(RUN_FUZZ) $(T)

check-unit:
	@$(again) $(parallel) $(UNIT)
	@$(runner) $(RUN_UNIT)

check-cli:
	@$(again) $(parallel) $B/qdedup $(CRASH) $(FAULT) $(TOOLS) $(BENCH_TOOLS)
	@$(runner) $(T)

check-fuzz:
	@$(again) $(parallel) $(FUZZ_DRIVERS)
	@$(runner) $(RUN_FUZZ)

check-layers:
	@$(again) $(parallel) $B/libqdedup.a
	@$(runner) -l

FIRST ?= 1
SEEDS ?= 2000
SEQUENCES ?= 500
check-campaign:
	@$(again) $(parallel) $B/qdedup $(TOOLS)
	@QDEDUP=$(CURDIR)/$(QDEDUP_UNDER_TEST) python3 -B tests/images/campaign.py --first $(FIRST) --count $(SEEDS)
	@QDEDUP=$(CURDIR)/$(QDEDUP_UNDER_TEST) python3 -B tests/tools/sequences.py --seed $(FIRST) --runs $(SEQUENCES)

check-kill:
	@$(again) $(parallel) $B/qdedup $(TOOLS)
	@QDEDUP=$(CURDIR)/$B/qdedup tests/crash/kill.sh $(or $(KILLS),200)

# A browser is 300 MB: too much for what every test run installs.
check-html:
	@tests/setup.sh html
	@$(again) $(parallel) $B/qdedup
	@QDEDUP=$(CURDIR)/$(QDEDUP_UNDER_TEST) tests/html.sh build/html

check-asan check-tsan: check-%:
	@tests/setup.sh check
	@$(again) FLAVOUR=$* QD_TIMES_SLOWER=4 check-suite

check-valgrind:
	@tests/setup.sh valgrind
	@$(again) $(parallel) check-build
	@mkdir -p build/valgrind/tests/unit
	@tests/wrap.sh build/valgrind/qdedup $(CURDIR)/$B/qdedup
	@tests/wrap.sh build/valgrind/tests/unit/unit $(CURDIR)/$B/tests/unit/unit
	@QD_TIMES_SLOWER=20 $(again) QDEDUP_UNDER_TEST=build/valgrind/qdedup \
		UNIT_UNDER_TEST=build/valgrind/tests/unit/unit check-suite

fuzz:
	@tests/setup.sh fuzz
	@$(again) $(parallel) FLAVOUR=fuzz CC=clang fuzz-build
	@tests/fuzz/make-corpus.sh build/corpus
	@for f in $(notdir $(FUZZERS)); do \
		echo "build/fuzz/libfuzzer/$$f -max_total_time=600 build/corpus/$${f#fuzz_}"; done

fuzz-build: $(FUZZERS)

coverage:
	@tests/setup.sh coverage
	@find build/coverage -name '*.gcda' -delete 2>/dev/null || true
	@$(again) FLAVOUR=coverage check-suite
	@gcovr --root . --filter 'lib/' --filter 'cmd/' build/coverage

bench:
	@tests/setup.sh bench
	@$(again) $(parallel) all $(TOOLS) $(BENCH_TOOLS)
	@status=0; \
	QDEDUP=$(CURDIR)/qdedup tests/bench/run.sh || status=1; \
	QDEDUP=$(CURDIR)/qdedup tests/bench/check.sh || status=1; \
	QDEDUP=$(CURDIR)/qdedup tests/bench/index.sh || status=1; \
	QDEDUP=$(CURDIR)/qdedup tests/bench/inplace.sh || status=1; \
	QDEDUP=$(CURDIR)/qdedup QD_SYNTH=$(CURDIR)/$B/bench/scan_synth tests/bench/scan.sh || status=1; \
	exit $$status

SHELL_SRC := $(sort $(wildcard tests/*.sh tests/*/*.sh) .ci/run)
lint:
	@tests/setup.sh lint
	@$(again) lint-all

.PHONY: lint-all lint-headers lint-shell lint-cppcheck lint-tidy
lint-all: lint-headers lint-shell lint-cppcheck lint-tidy
lint-headers: need-libs
	@for h in $(HEADERS); do $(COMPILE) -Werror -fsyntax-only -x c $$h || exit 1; done
lint-shell:
	shellcheck -x -P SCRIPTDIR -S warning $(SHELL_SRC)
	@! grep -nE '[|] *grep -[[:alpha:]]*q' tests/cli/*.sh || { echo "use prints (tests/cli/lib.sh)"; exit 1; }
lint-cppcheck:
	cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c11 --enable=warning,performance,portability \
		--suppress=missingIncludeSystem -D_GNU_SOURCE -DQD_VERSION='"x"' -Ilib lib cmd
lint-tidy:
	clang-tidy --quiet lib/base/err.c -- -std=c11 $(QD_CPPFLAGS)
	clang-tidy --quiet $(filter-out lib/base/err.c,$(LIB_SRC) $(CMD_SRC)) -- -std=c11 $(QD_CPPFLAGS) \
		-include tests/lint-model.h

# ---- installing and packing ------------------------------------------------------------------

.PHONY: install uninstall dist distcheck
D := $(DESTDIR)
installed = $(BINDIR)/qdedup $(LIBDIR)/libqdedup.a $(LIBDIR)/libqdedup.so $(LIBDIR)/$(SONAME) \
	$(LIBDIR)/libqdedup.so.$(VERSION) $(LIBDIR)/pkgconfig/qdedup.pc \
	$(patsubst lib/%,$(INCLUDEDIR)/qdedup/%,$(HEADERS)) \
	$(foreach m,$(MAN),$(MANDIR)/man$(subst .,,$(suffix $m))/$(notdir $m))

install: all
	$(INSTALL) -d "$D$(BINDIR)" "$D$(LIBDIR)/pkgconfig"
	$(INSTALL) -m 755 qdedup "$D$(BINDIR)/qdedup"
	$(INSTALL) -m 644 libqdedup.a "$D$(LIBDIR)/libqdedup.a"
	$(INSTALL) -m 644 $B/$(SONAME) "$D$(LIBDIR)/libqdedup.so.$(VERSION)"
	ln -sf libqdedup.so.$(VERSION) "$D$(LIBDIR)/$(SONAME)"
	ln -sf $(SONAME) "$D$(LIBDIR)/libqdedup.so"
	sed -e 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@INCLUDEDIR@|$(INCLUDEDIR)|' \
		-e 's|@VERSION@|$(VERSION)|; s|@PKGS@|$(LIB_PKGS)|' qdedup.pc.in >"$D$(LIBDIR)/pkgconfig/qdedup.pc"
	chmod 644 "$D$(LIBDIR)/pkgconfig/qdedup.pc"
	@set -e; for h in $(HEADERS); do \
		$(INSTALL) -D -m 644 $$h "$D$(INCLUDEDIR)/qdedup/$${h#lib/}"; done
	@set -e; for m in $(MAN); do \
		$(INSTALL) -D -m 644 $$m "$D$(MANDIR)/man$${m##*.}/$${m##*/}"; done

uninstall:
	@for f in $(installed); do echo "rm -f $D$$f"; rm -f "$D$$f"; done
	@for d in $(sort $(dir $(HEADERS))); do rmdir "$D$(INCLUDEDIR)/qdedup/$${d#lib/}" 2>/dev/null || true; done
	@rmdir "$D$(INCLUDEDIR)/qdedup" 2>/dev/null || true

DIST := qdedup-$(VERSION)
DIST_FILES := cmd lib man tests Makefile README COPYING qdedup.pc.in .editorconfig .gitignore .clang-tidy .ci
dist: $(DIST).tar.gz
.PHONY: $(DIST).tar.gz
$(DIST).tar.gz:
	tar --sort=name --owner=0 --group=0 --numeric-owner --exclude='*~' --exclude=__pycache__ \
		--transform 's,^,$(DIST)/,' -czf $@ $(DIST_FILES)

distcheck: dist
	tests/distcheck.sh $(DIST)
