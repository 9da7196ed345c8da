/* Arbitrary text as a dump, in each syntax, with and without CR at the lines' ends. */
#include "tools/cli/dump_format.h"

#include <stdlib.h>

#define EVENTS_PER_BYTE 2 /* a reader that gives more than this does not come forward */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum dump_syntax syntaxes[] = {DUMP_SNIFF, DUMP_KEYWORDS, DUMP_PAIRS, DUMP_JSON};
    if (size == 0)
        return 0;
    struct lines lines;
    struct dump_reader reader;
    lines_open_memory(&lines, LSM_SLICE(data + 1, size - 1));
    lines.strip_cr = (data[0] & 4) != 0;
    dump_reader_init(&reader, &lines, syntaxes[data[0] & 3]);
    size_t events = 0;
    enum dump_event event;
    do {
        event = dump_reader_next(&reader);
        if (++events > EVENTS_PER_BYTE * size + 2)
            abort();
        if (event == DUMP_ERROR && text_string(&reader.error)[0] == '\0')
            abort();
    } while (event != DUMP_END && event != DUMP_ERROR);
    if (dump_reader_next(&reader) != event)
        abort();
    dump_reader_release(&reader);
    lines_close(&lines);
    return 0;
}
