/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Text that came from outside: file names, and names that stand in an image.
 *
 * A name may hold any byte but NUL.  On its way to a person it must not end the line,
 * move the cursor or reorder what is read; on its way into JSON it must be UTF-8.
 *
 *	control characters (C0, DEL, C1)      \n \t \r or \xNN
 *	bytes that are not UTF-8              \xNN
 *	line separators, bidi controls        \xNN\xNN\xNN
 *	everything else, backslash included   as it is
 */
#include <stdlib.h>
#include <string.h>

#include "cmd.h"

/* Bytes of the UTF-8 character at s (1..4); 0 when it is not one (RFC 3629, section 4). */
static size_t utf8_nbytes(const unsigned char *s)
{
	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4 || (s[1] & 0xc0) != 0x80)
		return 0;
	if (s[0] < 0xe0)
		return 2;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f) || (s[2] & 0xc0) != 0x80)
		return 0;
	if (s[0] < 0xf0)
		return 3;
	return (s[3] & 0xc0) == 0x80 ? 4 : 0;
}

/* True for what a terminal would obey or a reader would not see. */
static bool is_harmful(const unsigned char *s, size_t nbytes)
{
	if (nbytes == 1)
		return s[0] < 0x20 || s[0] == 0x7f;
	if (nbytes == 2)
		return s[0] == 0xc2 && s[1] < 0xa0;			/* U+0080..U+009F */
	if (nbytes != 3 || s[0] != 0xe2)
		return false;
	return (s[1] == 0x80 && ((s[2] >= 0xa8 && s[2] <= 0xae) ||	/* U+2028..U+202E */
				 s[2] == 0x8e || s[2] == 0x8f)) ||	/* U+200E, U+200F */
	       (s[1] == 0x81 && s[2] >= 0xa6 && s[2] <= 0xa9);		/* U+2066..U+2069 */
}

static void put_escaped(FILE *out, const unsigned char *s, size_t nbytes)
{
	for (size_t i = 0; i < nbytes; i++) {
		if (s[i] == '\n')
			fputs("\\n", out);
		else if (s[i] == '\t')
			fputs("\\t", out);
		else if (s[i] == '\r')
			fputs("\\r", out);
		else
			fprintf(out, "\\x%02x", s[i]);
	}
}

void text_put(FILE *out, const char *text)
{
	const unsigned char *s = (const unsigned char *)text;

	while (*s) {
		size_t nbytes = utf8_nbytes(s);

		if (nbytes == 0)
			put_escaped(out, s, nbytes = 1);
		else if (is_harmful(s, nbytes))
			put_escaped(out, s, nbytes);
		else
			fwrite(s, 1, nbytes, out);
		s += nbytes;
	}
}

json_t *text_json(const char *text)
{
	static const char replacement[] = "\xef\xbf\xbd";
	const unsigned char *s = (const unsigned char *)text;
	char *clean = malloc(strlen(text) * 3 + 1);	/* one bad byte becomes three */
	char *end = clean;
	json_t *json;

	if (!clean)
		return NULL;
	while (*s) {
		size_t nbytes = utf8_nbytes(s);
		const char *from = nbytes ? (const char *)s : replacement;
		size_t used = nbytes ? nbytes : 3;

		memcpy(end, from, used);
		end += used;
		s += nbytes ? nbytes : 1;
	}
	json = json_stringn_nocheck(clean, (size_t)(end - clean));
	free(clean);
	return json;
}
