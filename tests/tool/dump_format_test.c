/* The text formats, written and read back in memory. */
#include "tests/lib/scratch.h"
#include "tools/cli/dump_format.h"
#include "tools/cli/key_set.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLICE_OF(text) LSM_SLICE((text), sizeof(text) - 1)

/* ---- helpers --------------------------------------------------------------------------------- */

/* What reading came to: "section(NAME) pair pair end DONE", or the error's sentence. */
static char *read_events(lsm_slice input, enum dump_syntax syntax, bool strips_cr,
                         struct text *events)
{
    struct lines lines;
    struct dump_reader reader;
    enum dump_event event = DUMP_SECTION;
    lines_open_memory(&lines, input);
    lines.strip_cr = strips_cr;
    dump_reader_init(&reader, &lines, syntax);
    text_clear(events);
    while (event != DUMP_END && event != DUMP_ERROR) {
        event = dump_reader_next(&reader);
        if (event == DUMP_SECTION)
            text_append_format(events, "section(%s) ",
                               reader.section.has_name ? text_string(&reader.section.name) : "-");
        if (event == DUMP_PAIR) {
            text_append_string(events, "<");
            text_append_print(events, text_slice(&reader.key));
            text_append_string(events, "=");
            text_append_print(events, text_slice(&reader.value));
            text_append_string(events, "> ");
        }
        if (event == DUMP_SECTION_END)
            text_append_string(events, "end ");
        if (event == DUMP_END)
            text_append_string(events, "DONE");
        if (event == DUMP_ERROR)
            text_append_format(events, "%s%s", reader.is_damage ? "DAMAGE " : "",
                               text_string(&reader.error));
    }
    dump_reader_release(&reader);
    lines_close(&lines);
    return (char *)(uintptr_t)text_string(events);
}

#define HEADER "VERSION=3\nformat=bytevalue\ntype=btree\nHEADER=END\n"

static void assert_reads(const char *input, const char *expected)
{
    struct text events = {0};
    ck_assert_str_eq(read_events(LSM_SLICE(input, strlen(input)), DUMP_SNIFF, false, &events),
                     expected);
    text_release(&events);
}

static void assert_plain_reads(const char *input, const char *expected)
{
    struct text events = {0};
    ck_assert_str_eq(read_events(LSM_SLICE(input, strlen(input)), DUMP_PAIRS, false, &events),
                     expected);
    text_release(&events);
}

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* ---- text ------------------------------------------------------------------------------------ */

START_TEST(test_text_every_byte_comes_back)
{
    unsigned char all[256];
    struct text encoded = {0}, decoded = {0};
    for (unsigned i = 0; i < 256; i++)
        all[i] = (unsigned char)i;
    for (size_t size = 0; size <= sizeof all; size += 1) {
        lsm_slice bytes = {all, size};
        void (*encoders[])(struct text *, lsm_slice) = {text_append_hex, text_append_print,
                                                        text_append_base64};
        const char *(*decoders[])(struct text *, lsm_slice, size_t *) = {
            text_decode_hex, text_decode_print, text_decode_base64};
        for (size_t i = 0; i < 3; i++) {
            text_clear(&encoded);
            text_clear(&decoded);
            encoders[i](&encoded, bytes);
            ck_assert_ptr_null(decoders[i](&decoded, text_slice(&encoded), NULL));
            ck_assert_uint_eq(decoded.size, size);
            ck_assert(size == 0 || memcmp(decoded.bytes, all, size) == 0);
        }
    }
    text_release(&encoded);
    text_release(&decoded);
}
END_TEST

START_TEST(test_text_hex_is_written_in_lower_case)
{
    struct text t = {0};
    text_append_hex(&t, SLICE_OF("\xab\xcd\x0f"));
    text_append_print(&t, SLICE_OF("\xab\n\\"));
    ck_assert_str_eq(text_string(&t), "abcd0f\\ab\\0a\\\\");
    text_release(&t);
}
END_TEST

/* Sixteen digits are read at once, then eight: every byte at every place among them. */
START_TEST(test_text_hex_of_every_byte_at_every_place)
{
    char encoded[27] = "00112233445566778899aabb8a";
    for (size_t place = 0; place < 26; place++) {
        char before = encoded[place];
        for (int c = 0; c < 256; c++) {
            struct text t = {0};
            size_t at = SIZE_MAX;
            bool is_digit = c != 0 && strchr("0123456789abcdefABCDEF", c) != NULL;
            encoded[place] = (char)c;
            const char *wrong = text_decode_hex(&t, LSM_SLICE(encoded, 26), &at);
            ck_assert_msg((wrong == NULL) == is_digit, "byte %d at %zu", c, place);
            if (is_digit) {
                char pair[3] = {encoded[place & ~(size_t)1], encoded[place | 1], '\0'};
                ck_assert_uint_eq(t.size, 13);
                ck_assert_int_eq((unsigned char)t.bytes[place / 2], (int)strtol(pair, NULL, 16));
            } else {
                ck_assert_uint_eq(at, place);
            }
            text_release(&t);
        }
        encoded[place] = before;
    }
}
END_TEST

START_TEST(test_text_hex_is_read_in_either_case)
{
    struct text t = {0};
    ck_assert_ptr_null(text_decode_hex(&t, SLICE_OF("6B326b"), NULL));
    ck_assert_ptr_null(text_decode_print(&t, SLICE_OF("\\4A\\4a"), NULL));
    ck_assert_str_eq(text_string(&t), "k2kJJ");
    text_release(&t);
}
END_TEST

START_TEST(test_text_wrong_digits_are_found)
{
    struct text t = {0};
    size_t at = 0;
    ck_assert_ptr_nonnull(text_decode_hex(&t, SLICE_OF("6b3"), &at));
    ck_assert_uint_eq(at, 2);
    ck_assert_ptr_nonnull(text_decode_hex(&t, SLICE_OF("6b3g"), &at));
    ck_assert_uint_eq(at, 3);
    ck_assert_ptr_nonnull(text_decode_print(&t, SLICE_OF("ab\\"), &at));
    ck_assert_uint_eq(at, 2);
    ck_assert_ptr_nonnull(text_decode_print(&t, SLICE_OF("\\6"), &at));
    ck_assert_ptr_nonnull(text_decode_print(&t, SLICE_OF("\\xy"), &at));
    ck_assert_ptr_nonnull(text_decode_base64(&t, SLICE_OF("QUJ"), &at));
    ck_assert_ptr_nonnull(text_decode_base64(&t, SLICE_OF("QR=="), &at));
    ck_assert_ptr_nonnull(text_decode_base64(&t, SLICE_OF("Q==="), &at));
    ck_assert_ptr_nonnull(text_decode_base64(&t, SLICE_OF("QQ==QUJD"), &at));
    ck_assert_uint_eq(t.size, 0);
    text_release(&t);
}
END_TEST

START_TEST(test_text_utf8_is_told_from_bytes)
{
    ck_assert(text_is_utf8(SLICE_OF("")));
    ck_assert(text_is_utf8(SLICE_OF("a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80")));
    ck_assert(!text_is_utf8(SLICE_OF("\x80")));
    ck_assert(!text_is_utf8(SLICE_OF("\xc0\x80")));         /* overlong */
    ck_assert(!text_is_utf8(SLICE_OF("\xe0\x80\x80")));     /* overlong */
    ck_assert(!text_is_utf8(SLICE_OF("\xed\xa0\x80")));     /* surrogate */
    ck_assert(!text_is_utf8(SLICE_OF("\xf4\x90\x80\x80"))); /* over U+10FFFF */
    ck_assert(!text_is_utf8(SLICE_OF("\xe2\x82")));         /* cut */
    ck_assert(!text_is_utf8(SLICE_OF("\xff")));
}
END_TEST

/* ---- writing and reading back ---------------------------------------------------------------- */

struct pair {
    unsigned char key[24], value[40];
    size_t key_size, value_size;
};

static struct pair random_pair(uint64_t *state)
{
    struct pair p;
    p.key_size = random_next(state) % sizeof p.key;
    p.value_size = random_next(state) % sizeof p.value;
    for (size_t i = 0; i < p.key_size; i++)
        p.key[i] = (unsigned char)random_next(state);
    for (size_t i = 0; i < p.value_size; i++)
        p.value[i] = (unsigned char)random_next(state);
    return p;
}

static void write_sections(struct text *out, struct dump_style *style, uint64_t seed, size_t pairs)
{
    static const char *const names[] = {"one", "two words"};
    struct digest digest = {0};
    dump_write_begin(out, style);
    for (size_t section = 0; section < 2; section++) {
        digest_begin(&digest);
        dump_write_header(out, style, names[section]);
        for (size_t i = 0; i < pairs; i++) {
            struct pair p = random_pair(&seed);
            lsm_slice key = {p.key, p.key_size}, value = {p.value, p.value_size};
            digest_add(&digest, key, value);
            dump_write_pair(out, style, key, value);
        }
        dump_write_end(out, style, &digest);
    }
    dump_write_finish(out, style, 2);
}

static void assert_sections_read_back(lsm_slice dump, uint64_t seed, size_t pairs)
{
    struct lines lines;
    struct dump_reader reader;
    lines_open_memory(&lines, dump);
    dump_reader_init(&reader, &lines, DUMP_SNIFF);
    for (size_t section = 0; section < 2; section++) {
        ck_assert_int_eq(dump_reader_next(&reader), DUMP_SECTION);
        ck_assert(reader.section.has_name);
        ck_assert_str_eq(text_string(&reader.section.name), section == 0 ? "one" : "two words");
        for (size_t i = 0; i < pairs; i++) {
            struct pair p = random_pair(&seed);
            ck_assert_int_eq(dump_reader_next(&reader), DUMP_PAIR);
            ck_assert_uint_eq(reader.key.size, p.key_size);
            ck_assert_uint_eq(reader.value.size, p.value_size);
            ck_assert(p.key_size == 0 || memcmp(reader.key.bytes, p.key, p.key_size) == 0);
            ck_assert(p.value_size == 0 || memcmp(reader.value.bytes, p.value, p.value_size) == 0);
        }
        ck_assert_int_eq(dump_reader_next(&reader), DUMP_SECTION_END);
    }
    ck_assert_int_eq(dump_reader_next(&reader), DUMP_END);
    ck_assert_int_eq(dump_reader_next(&reader), DUMP_END);
    dump_reader_release(&reader);
    lines_close(&lines);
}

START_TEST(test_dump_random_bytes_come_back_in_every_format)
{
    const uint64_t seed = UINT64_C(0x9e3779b97f4a7c15);
    printf("seed %" PRIu64 "\n", seed);
    for (int format = DUMP_BDB; format <= DUMP_JSONL; format++) {
        for (int print = 0; print < 2; print++) {
            /* A backslash in a print dump of LMDB is refused; the reader would take it. */
            struct dump_style style = {.format = (enum dump_format)format,
                                       .is_print = print == 1,
                                       .map_size = 1 << 20,
                                       .sequence = 77};
            struct text out = {0};
            write_sections(&out, &style, seed, 300);
            assert_sections_read_back(text_slice(&out), seed, 300);
            text_release(&out);
        }
    }
}
END_TEST

static uint64_t digest_of(const char *const *pairs, size_t count)
{
    struct digest digest;
    digest_begin(&digest);
    for (size_t i = 0; i < count; i++) {
        const char *equals = strchr(pairs[i], '=');
        digest_add(&digest, LSM_SLICE(pairs[i], (size_t)(equals - pairs[i])),
                   LSM_SLICE(equals + 1, strlen(equals + 1)));
    }
    ck_assert_uint_eq(digest.pair_count, count);
    return digest_value(&digest);
}
#define DIGEST_OF(...)                                                                             \
    digest_of((const char *const[]){__VA_ARGS__},                                                  \
              sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

START_TEST(test_digest_depends_on_the_pairs_and_not_on_their_order)
{
    uint64_t digest = DIGEST_OF("a=1", "b=2", "c=");
    ck_assert_uint_eq(digest, DIGEST_OF("c=", "a=1", "b=2"));
    ck_assert_uint_ne(digest, DIGEST_OF("a=2", "b=1", "c="));
    ck_assert_uint_ne(digest, DIGEST_OF("a=1", "b=2"));
    ck_assert_uint_ne(digest, DIGEST_OF("a=1", "b=2", "c=", "c="));
    ck_assert_uint_ne(DIGEST_OF("ab=c"), DIGEST_OF("a=bc"));
    ck_assert_uint_ne(DIGEST_OF("=a"), DIGEST_OF("a="));
    /* What native dumps say of themselves must not change. */
    ck_assert_uint_eq(DIGEST_OF("key=value"), UINT64_C(12799176785381101966));
}
END_TEST

START_TEST(test_dump_cut_anywhere_is_an_error)
{
    for (int format = DUMP_BDB; format <= DUMP_JSONL; format++) {
        struct dump_style style = {.format = (enum dump_format)format};
        struct text out = {0}, events = {0};
        write_sections(&out, &style, 5, 3);
        size_t complete = 0;
        for (size_t size = 0; size < out.size; size++) {
            char *got = read_events(LSM_SLICE(out.bytes, size), DUMP_SNIFF, false, &events);
            if (strstr(got, "DONE") != NULL)
                complete++;
        }
        /* Whole are: the first section, with and without its last LF; the second without it. jsonl
         * says itself when it is complete. */
        size_t whole = format == DUMP_JSONL ? 1 : 3;
        ck_assert_uint_eq(complete, whole);
        text_release(&out);
        text_release(&events);
    }
}
END_TEST

START_TEST(test_dump_default_header_is_what_both_loaders_take)
{
    struct dump_style style = {.format = DUMP_BDB};
    struct text out = {0};
    dump_write_header(&out, &style, "words");
    ck_assert_str_eq(text_string(&out), "VERSION=3\nformat=bytevalue\ndatabase=words\ntype=btree\n"
                                        "HEADER=END\n");
    text_clear(&out);
    dump_write_header(&out, &style, NULL);
    ck_assert_str_eq(text_string(&out), "VERSION=3\nformat=bytevalue\ntype=btree\nHEADER=END\n");
    text_release(&out);
}
END_TEST

START_TEST(test_dump_lmdb_refuses_what_lmdb_cannot_hold)
{
    static const unsigned char bytes[512] = {1};
    struct dump_style style = {.format = DUMP_LMDB, .is_print = true};
    ck_assert_ptr_nonnull(dump_refuses_pair(&style, LSM_SLICE(bytes, 0), SLICE_OF("v")));
    ck_assert_ptr_nonnull(dump_refuses_pair(&style, LSM_SLICE(bytes, 512), SLICE_OF("v")));
    ck_assert_ptr_null(dump_refuses_pair(&style, LSM_SLICE(bytes, 511), SLICE_OF("v")));
    ck_assert_ptr_nonnull(dump_refuses_pair(&style, SLICE_OF("k"), SLICE_OF("a\\b")));
    style.is_print = false;
    ck_assert_ptr_null(dump_refuses_pair(&style, SLICE_OF("k"), SLICE_OF("a\\b")));
    ck_assert_ptr_nonnull(dump_refuses_name(&style, "a\\b"));
    ck_assert_ptr_nonnull(dump_refuses_name(&style, "a\nb"));
    style.format = DUMP_NATIVE;
    ck_assert_ptr_null(dump_refuses_name(&style, "a\nb"));
    ck_assert_ptr_null(dump_refuses_pair(&style, LSM_SLICE(bytes, 0), SLICE_OF("v")));
}
END_TEST

/* ---- what a reader must refuse --------------------------------------------------------------- */

START_TEST(test_reader_missing_end_is_an_error_with_its_line)
{
    assert_reads(HEADER " 61\n 62\n",
                 "section(-) <a=b> line 7: the input ends without DATA=END: it was cut short");
    assert_reads(HEADER, "section(-) line 5: the input ends without DATA=END: it was cut short");
    assert_reads(HEADER " 61\n",
                 "section(-) line 6: the input ends without DATA=END: it was cut short");
    assert_reads("VERSION=3\n", "line 2: the input ends inside a header, without HEADER=END");
    assert_reads("", "line 1: the input ends where a header is wanted: it is empty");
}
END_TEST

START_TEST(test_reader_odd_pairs_are_an_error_with_their_line)
{
    assert_reads(HEADER " 61\nDATA=END\n", "section(-) line 6: the key of line 5 has no value");
    assert_plain_reads("a\n1\nb\n",
                       "section(-) <a=1> line 4: the key of line 3 has no value: the number of "
                       "lines is odd");
}
END_TEST

START_TEST(test_reader_bad_hex_is_an_error_with_its_column)
{
    assert_reads(HEADER " 6\n 62\nDATA=END\n",
                 "section(-) line 5: column 2: an odd number of hexadecimal digits");
    assert_reads(HEADER " 61\n 6x\nDATA=END\n",
                 "section(-) line 6: column 3: not a hexadecimal digit");
    assert_plain_reads("a\\b\n1\n",
                       "section(-) line 1: column 2: a backslash is followed by neither two "
                       "hexadecimal digits nor another backslash");
}
END_TEST

START_TEST(test_reader_carriage_returns_need_consent)
{
    struct text events = {0};
    static const char input[] = "VERSION=3\r\nformat=print\r\nHEADER=END\r\n a\r\n 1\r\n"
                                "DATA=END\r\n";
    assert_reads(input, "line 1: the line ends with a carriage return: --crlf reads files with "
                        "such lines");
    assert_reads(HEADER " 61\r\n 62\nDATA=END\n",
                 "section(-) line 5: the line ends with a carriage return: --crlf reads files with "
                 "such lines");
    assert_plain_reads("a\r\n1\r\n",
                       "section(-) line 1: the line ends with a carriage return: --crlf reads "
                       "files with such lines");
    ck_assert_str_eq(read_events(SLICE_OF(input), DUMP_SNIFF, true, &events),
                     "section(-) <a=1> end DONE");
    text_release(&events);
}
END_TEST

START_TEST(test_reader_header_faults_are_errors)
{
    assert_reads("VERSION=3\nspeed=9\n", "line 2: the keyword 'speed' is unknown");
    assert_reads("VERSION=4\n", "line 1: VERSION=4 is unknown, 1 to 3 can be read");
    assert_reads("VERSION=x\n", "line 1: VERSION=x: a number is wanted");
    assert_reads("format=octal\n", "line 1: format=octal is neither bytevalue nor print");
    assert_reads("type=queue\n", "line 1: type=queue cannot be loaded, only btree, hash and recno");
    assert_reads("type=btree\ntype=btree\n", "line 2: the keyword 'type' stands twice in a header");
    assert_reads("hello\n", "line 1: a header line 'keyword=value' is wanted, 'hello' was found "
                            "(-T reads plain pairs of lines)");
    assert_reads("HEADER=BEGIN\n", "line 1: HEADER= is not followed by END");
    assert_reads("type=btree\nkeys=0\nHEADER=END\n",
                 "line 3: keys=0: the section holds values only");
    assert_reads("type=recno\nHEADER=END\n",
                 "line 2: type=recno without keys=1 holds values only: dump it again with keys "
                 "('db_dump -k')");
    assert_reads("lsm.count=1\n", "line 1: lsm.count= belongs behind DATA=END");
}
END_TEST

START_TEST(test_reader_blank_line_between_sections_is_an_error)
{
    assert_reads(HEADER "DATA=END\n\n" HEADER "DATA=END\n",
                 "section(-) end line 6: a header line 'keyword=value' is wanted, '' was found");
    assert_reads(HEADER "x\nDATA=END\n",
                 "section(-) line 5: a line with a blank in front or DATA=END is wanted, 'x' was "
                 "found");
}
END_TEST

START_TEST(test_reader_takes_peers_headers)
{
    assert_reads("VERSION=3\nformat=print\ntype=btree\nmapsize=1048576\nmaxreaders=126\n"
                 "db_pagesize=4096\nHEADER=END\n \n \nDATA=END\n",
                 "section(-) <=> end DONE");
    assert_reads("VERSION=3\nformat=bytevalue\ntype=hash\nh_ffactor=40\nHEADER=END\nDATA=END",
                 "section(-) end DONE");
    assert_reads("format=bytevalue\ntype=recno\nkeys=1\nHEADER=END\n 31\n 61\nDATA=END\n",
                 "section(-) <1=a> end DONE");
    assert_reads("format=bytevalue\ndatabase=a\\20b\ntype=btree\nHEADER=END\nDATA=END\n",
                 "section(a b) end DONE");
    assert_reads("format=bytevalue\ndatabase=a\\20b\ntype=btree\nmapsize=1\nHEADER=END\nDATA=END\n",
                 "section(a\\20b) end DONE");
    /* each section has the format its own header says */
    assert_reads("format=print\ndatabase=p\nHEADER=END\n 61\n 62\nDATA=END\n"
                 "format=bytevalue\ndatabase=b\nHEADER=END\n 61\n 62\nDATA=END\n",
                 "section(p) <61=62> end section(b) <a=b> end DONE");
}
END_TEST

START_TEST(test_reader_changed_native_dump_is_damage)
{
    struct dump_style style = {.format = DUMP_NATIVE};
    struct text out = {0}, events = {0};
    write_sections(&out, &style, 11, 4);
    char *digit = strchr(strstr(text_string(&out), "HEADER=END\n"), ' ') + 1;
    *digit = *digit == '0' ? '1' : '0';
    ck_assert_ptr_nonnull(
        strstr(read_events(text_slice(&out), DUMP_SNIFF, false, &events), "DAMAGE line "));
    text_release(&out);
    text_release(&events);
    assert_reads(HEADER "DATA=END\nlsm.count=1\n",
                 "section(-) end DAMAGE line 6: the section holds 0 pairs where its count says 1: "
                 "the input was changed");
}
END_TEST

START_TEST(test_reader_json_faults_are_errors)
{
#define JSON_TAIL "{\"complete\":true,\"families\":1}\n"
#define JSON_HEAD "{\"schema\":\"lsm-dump/1\"}\n{\"family\":\"f\"}\n"
    assert_reads(
        JSON_HEAD
        "{\"key\":\"a\",\"value\":{\"hex\":\"00\"}}\n{\"end\":true,\"count\":1}\n" JSON_TAIL,
        "section(f) <a=\\00> end DONE");
    assert_reads(
        JSON_HEAD
        "{\"key\":{\"base64\":\"QQ==\"},\"value\":\"\\u0000\"}\n{\"end\":true}\n" JSON_TAIL,
        "section(f) <A=\\00> end DONE");
    assert_reads(JSON_HEAD, "section(f) line 3: the input ends without {\"end\": true}: it was cut "
                            "short");
    assert_reads(JSON_HEAD "{\"end\":true}\n",
                 "section(f) end line 4: the input ends without {\"complete\": true}: it was cut "
                 "short");
    assert_reads(JSON_HEAD "{\"end\":true}\n" JSON_TAIL "{}\n",
                 "section(f) end line 5: something stands behind {\"complete\": true}");
    assert_reads("{\"schema\":\"lsm-dump/1\"}\n" JSON_TAIL,
                 "DAMAGE line 2: the input holds 0 families where its last line says 1: it was "
                 "changed");
    assert_reads("{\"family\":\"f\"}\n", "line 1: {\"schema\": \"lsm-dump/1\"} is wanted first");
    assert_reads(JSON_HEAD "{\"key\":\"a\"}\n",
                 "section(f) line 3: {\"key\": ..., \"value\": ...} or {\"end\": true} is wanted");
    assert_reads(JSON_HEAD "{\"key\":\"a\",\"value\":1}\n",
                 "section(f) line 3: a string, {\"hex\": ...} or {\"base64\": ...} is wanted");
    assert_reads(JSON_HEAD "{\"key\":\"a\",\"value\":\"\\ud800x\"}\n",
                 "section(f) line 3: a \\u escape holds half of a surrogate pair");
    assert_reads(JSON_HEAD "{\"key\":\"a\",\"val",
                 "section(f) line 3: the JSON object is not complete");
    assert_reads(JSON_HEAD "{\"end\":true} {}\n", "section(f) line 3: unexpected character");
    assert_reads(JSON_HEAD "{\"end\":true,\"count\":2}\n",
                 "section(f) DAMAGE line 3: the section holds 0 pairs where its count says 2: the "
                 "input was changed");
#undef JSON_HEAD
#undef JSON_TAIL
}
END_TEST

START_TEST(test_reader_random_bytes_never_crash)
{
    struct text events = {0};
    uint64_t state = 12345;
    printf("seed %" PRIu64 "\n", state);
    static const char *const words[] = {"VERSION=3\n", "format=print\n", "HEADER=END\n", " 61\n",
                                        "DATA=END\n",  "{\"key\":",      "\"a\"}\n",     "\r\n"};
    for (int round = 0; round < 3000; round++) {
        struct text input = {0};
        for (uint64_t n = random_next(&state) % 12; n > 0; n--) {
            unsigned char byte = (unsigned char)random_next(&state);
            if (random_next(&state) % 3 != 0)
                text_append_string(&input, words[random_next(&state) % 8]);
            else
                text_append(&input, &byte, 1);
        }
        enum dump_syntax syntax = (enum dump_syntax)(round % 4);
        ck_assert_ptr_nonnull(read_events(text_slice(&input), syntax, false, &events));
        text_release(&input);
    }
    text_release(&events);
}
END_TEST

/* ---- others ---------------------------------------------------------------------------------- */

/* ---- lines ----------------------------------------------------------------------------------- */

#define LARGE_FILE ((size_t)9 << 20) /* bytes at least, so that a thread reads most of it */

/* Lines of all lengths; few are longer than what is read at a time. */
static void append_lines(struct text *all, uint64_t *state)
{
    while (all->size < LARGE_FILE) {
        uint64_t kind = random_next(state) % 1000;
        size_t size = random_next(state) % (kind == 0 ? 700000 : kind < 20 ? 40000 : 200);
        char *to = text_reserve(all, size + 1);
        for (size_t i = 0; i < size; i++)
            to[i] = (char)('a' + random_next(state) % 26);
        to[size] = '\n';
        all->size += size + 1;
    }
    text_append_string(all, "no line feed");
}

static void write_file(const char *path, const struct text *all)
{
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(all->bytes, 1, all->size, file), all->size);
    ck_assert_int_eq(fclose(file), 0);
}

START_TEST(test_lines_large_file_reads_as_from_memory)
{
    uint64_t seed = 20261123 + (uint64_t)_i, state = seed;
    char folder[SCRATCH_PATH_SIZE], path[SCRATCH_PATH_SIZE + 8];
    struct text all = {0};
    struct lines file, memory;
    lsm_slice line, wanted;
    enum lines_result result;
    printf("seed %" PRIu64 "\n", seed);
    snprintf(path, sizeof path, "%s/lines", scratch_make(folder));
    append_lines(&all, &state);
    write_file(path, &all);
    lines_open_memory(&memory, text_slice(&all));
    ck_assert(lines_open(&file, path));
    do {
        result = lines_next(&file, &line);
        ck_assert_int_eq(result, lines_next(&memory, &wanted));
        ck_assert_uint_eq(file.number, memory.number);
        ck_assert_uint_eq(file.offset, memory.offset);
        if (result == LINES_LINE) {
            ck_assert_uint_eq(line.size, wanted.size);
            ck_assert(line.size == 0 || memcmp(line.data, wanted.data, line.size) == 0);
        }
    } while (result == LINES_LINE);
    ck_assert_int_eq(result, LINES_END);
    ck_assert_uint_eq(file.offset, all.size);
    ck_assert_ptr_nonnull(file.ahead);
    lines_close(&file);
    lines_close(&memory);

    ck_assert(lines_open(&file, path)); /* and left in the middle */
    for (unsigned i = 0; i < 4000; i++)
        ck_assert_int_eq(lines_next(&file, &line), LINES_LINE);
    ck_assert_ptr_nonnull(file.ahead);
    lines_close(&file);
    text_release(&all);
    scratch_remove(folder);
}
END_TEST

START_TEST(test_key_set_finds_what_was_added)
{
    struct key_set set = {0};
    char key[16];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 5000; i++) {
            size_t size = (size_t)snprintf(key, sizeof key, "%d", i);
            ck_assert(key_set_add(&set, 0, LSM_SLICE(key, size)));
            ck_assert(key_set_add(&set, 1, LSM_SLICE(key, size)));
        }
        for (int i = 0; i < 5000; i++) {
            size_t size = (size_t)snprintf(key, sizeof key, "%d", i);
            ck_assert(!key_set_add(&set, (size_t)(i % 2), LSM_SLICE(key, size)));
        }
        ck_assert(key_set_add(&set, 0, LSM_SLICE(NULL, 0)));
        ck_assert(!key_set_add(&set, 0, LSM_SLICE(NULL, 0)));
        key_set_clear(&set);
    }
    key_set_release(&set);
}
END_TEST

START_TEST(test_progress_line_fits_its_width)
{
    char line[201];
    for (unsigned width = 20; width <= 200; width++) {
        progress_format(line, width, "words", 45, 100, 1 << 20, UINT64_C(2000000000));
        ck_assert_uint_le(strlen(line), width);
    }
    progress_format(line, 70, "words", 45, 100, 1 << 20, UINT64_C(2000000000));
    ck_assert_str_eq(line,
                     "words [############----------------]  45% 1.0 MiB 512.0 KiB/s ETA 0:02");
    progress_format(line, 60, "words", 200, 100, 0, 0);
    ck_assert_ptr_nonnull(strstr(line, "100%"));
    progress_format(line, 60, "load", 5000, 0, 5000, UINT64_C(1000000000));
    ck_assert_str_eq(line, "load 4.9 KiB 4.9 KiB/s");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dump_format");
    TCase *cases = tcase_create("dump_format");
    tcase_add_test(cases, test_text_every_byte_comes_back);
    tcase_add_test(cases, test_text_hex_is_written_in_lower_case);
    tcase_add_test(cases, test_text_hex_of_every_byte_at_every_place);
    tcase_add_test(cases, test_text_hex_is_read_in_either_case);
    tcase_add_test(cases, test_text_wrong_digits_are_found);
    tcase_add_test(cases, test_text_utf8_is_told_from_bytes);
    tcase_add_test(cases, test_dump_random_bytes_come_back_in_every_format);
    tcase_add_test(cases, test_digest_depends_on_the_pairs_and_not_on_their_order);
    tcase_add_test(cases, test_dump_cut_anywhere_is_an_error);
    tcase_add_test(cases, test_dump_default_header_is_what_both_loaders_take);
    tcase_add_test(cases, test_dump_lmdb_refuses_what_lmdb_cannot_hold);
    tcase_add_test(cases, test_reader_missing_end_is_an_error_with_its_line);
    tcase_add_test(cases, test_reader_odd_pairs_are_an_error_with_their_line);
    tcase_add_test(cases, test_reader_bad_hex_is_an_error_with_its_column);
    tcase_add_test(cases, test_reader_carriage_returns_need_consent);
    tcase_add_test(cases, test_reader_header_faults_are_errors);
    tcase_add_test(cases, test_reader_blank_line_between_sections_is_an_error);
    tcase_add_test(cases, test_reader_takes_peers_headers);
    tcase_add_test(cases, test_reader_changed_native_dump_is_damage);
    tcase_add_test(cases, test_reader_json_faults_are_errors);
    tcase_add_test(cases, test_reader_random_bytes_never_crash);
    tcase_add_loop_test(cases, test_lines_large_file_reads_as_from_memory, 0, 3);
    tcase_add_test(cases, test_key_set_finds_what_was_added);
    tcase_add_test(cases, test_progress_line_fits_its_width);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
