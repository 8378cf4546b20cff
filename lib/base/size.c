/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading and writing sizes for people, in integers throughout: a double would round
 * "1.1T" and everything past 2^53 without a word.
 *
 * A fraction is kept as decimal digits and doubled once per binary place of the
 * suffix.  2^-60 (one byte in E) has 60 decimal places, so a longer fraction cannot
 * be a whole number of bytes.
 */
#include "base/size.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"

#define MAX_FRACTION 60

static int bad_size(struct qd_err *err, const char *text, const char *why)
{
	return qd_err_set(err, QD_E_INVALID, "size '%s': %s", text, why);
}

static int bad_syntax(struct qd_err *err, const char *text)
{
	return bad_size(err, text, "expected a number of bytes, or one with a suffix of K, M, G, T, P or E");
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int hex_digit(char c)
{
	if (is_digit(c))
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static int parse_hex(const char *text, uint64_t *ret_nbytes, struct qd_err *err)
{
	const char *p = text + 2;
	uint64_t v = 0;

	if (*p == '\0')
		return bad_syntax(err, text);
	for (; *p; p++) {
		int d = hex_digit(*p);

		if (d < 0)
			return bad_size(err, text, "expected hexadecimal digits and no suffix after 0x");
		if (v > (uint64_t)INT64_MAX >> 4)
			return bad_size(err, text, "too large");
		v = v << 4 | (uint64_t)d;
	}
	*ret_nbytes = v;
	return 0;
}

/* Reads decimal digits; *text is moved past them.  False on overflow. */
static bool take_digits(const char **text, uint64_t *ret_value)
{
	uint64_t v = 0;

	for (; is_digit(**text); (*text)++)
		if (!qd_mul_u64(v, 10, &v) || !qd_add_u64(v, (uint64_t)(**text - '0'), &v))
			return false;
	*ret_value = v;
	return true;
}

/* The suffix as a power of two, -1 when it is none of ours. */
static int suffix_shift(const char *suffix)
{
	static const char letters[] = "bBkKmMgGtTpPeE";
	const char *at;

	if (suffix[0] == '\0')
		return 0;
	at = suffix[1] == '\0' ? strchr(letters, suffix[0]) : NULL;
	return at ? (int)(at - letters) / 2 * 10 : -1;
}

/* 0.DIGITS * 2^shift into *ret_value; false when that is no whole number. */
static bool scale_fraction(const char *text, size_t ndigits, int shift, uint64_t *ret_value)
{
	char digits[MAX_FRACTION];
	uint64_t v = 0;

	while (ndigits > 0 && text[ndigits - 1] == '0')
		ndigits--;
	if (ndigits > MAX_FRACTION)
		return false;
	for (size_t i = 0; i < ndigits; i++)
		digits[i] = (char)(text[i] - '0');
	for (int s = 0; s < shift; s++) {
		int carry = 0;

		for (size_t i = ndigits; i-- > 0;) {
			int d = digits[i] * 2 + carry;

			carry = d / 10;
			digits[i] = (char)(d % 10);
		}
		v = v << 1 | (uint64_t)carry;
	}
	*ret_value = v;
	return qd_is_zero(digits, ndigits);
}

int qd_size_parse(const char *text, uint64_t *ret_nbytes, struct qd_err *err)
{
	const char *p = text, *fraction;
	size_t nfraction = 0;
	uint64_t whole, part;
	int shift;

	if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
		return parse_hex(text, ret_nbytes, err);
	if (!is_digit(text[0]) && !(text[0] == '.' && is_digit(text[1])))
		return bad_syntax(err, text);
	if (!take_digits(&p, &whole))
		return bad_size(err, text, "too large");
	fraction = p + 1;
	if (*p == '.')
		nfraction = strspn(fraction, "0123456789");
	if (nfraction > 0)
		p = fraction + nfraction;
	shift = suffix_shift(p);
	if (shift < 0)
		return bad_syntax(err, text);
	if (!scale_fraction(fraction, nfraction, shift, &part))
		return bad_size(err, text, "not a whole number of bytes");
	if (!qd_mul_u64(whole, UINT64_C(1) << shift, &whole) || !qd_add_u64(whole, part, &whole) ||
	    whole > INT64_MAX)
		return bad_size(err, text, "too large");
	*ret_nbytes = whole;
	return 0;
}

int qd_number_parse(const char *text, const char *what, uint64_t min, uint64_t max,
		    uint64_t *ret_value, struct qd_err *err)
{
	const char *p = text;
	uint64_t v;

	if (!is_digit(*p) || !take_digits(&p, &v) || *p != '\0' || v < min || v > max)
		return qd_err_set(err, QD_E_INVALID,
				  "%s: '%s', expected a whole number from %" PRIu64 " to %" PRIu64,
				  what, text, min, max);
	*ret_value = v;
	return 0;
}

/* nbytes / 2^shift in units of 1/scale, rounded to nearest; shift >= 10, scale <= 100. */
static uint64_t scaled(uint64_t nbytes, unsigned shift, uint64_t scale)
{
	uint64_t whole = nbytes >> shift;
	uint64_t thousandths = (nbytes >> (shift - 10)) & 1023;

	return whole * scale + (thousandths * scale + 512) / 1024;
}

const char *qd_size_format(uint64_t nbytes, char *buf, size_t buf_size)
{
	static const char units[] = "KMGTPE";
	unsigned shift = 10, unit = 0;
	uint64_t scale = 1, v;

	if (nbytes < 1024) {
		snprintf(buf, buf_size, "%" PRIu64 " B", nbytes);
		return buf;
	}
	/* The next unit begins where this one would be rounded up to 1024. */
	while (unit < 5 && scaled(nbytes, shift, 1) >= 1024) {
		shift += 10;
		unit++;
	}
	if (scaled(nbytes, shift, 100) < 1000)
		scale = 100;
	else if (scaled(nbytes, shift, 10) < 1000)
		scale = 10;
	v = scaled(nbytes, shift, scale);
	for (; scale > 1 && v % 10 == 0; scale /= 10)
		v /= 10;
	if (scale == 1)
		snprintf(buf, buf_size, "%" PRIu64 " %ciB", v, units[unit]);
	else
		snprintf(buf, buf_size, "%" PRIu64 ".%0*" PRIu64 " %ciB", v / scale,
			 scale == 100 ? 2 : 1, v % scale, units[unit]);
	return buf;
}
