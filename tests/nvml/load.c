/* A program on the simulated cards of CUDA_VISIBLE_DEVICES; it sleeps instead of computing.
 *
 *   load [--name WORD] [--startup S] [--crowding PART] [--delay S] [--gib GIB] [--percent P]
 *        [--seconds S] [--grow GIB] [--grow-after S] [--steps N] [WORD …]
 *
 * It runs through these phases:
 *
 *   startup    imports: it holds nothing yet. Each other program on its cards makes that longer by a --crowding part
 *   context    0.6 GiB on each card; a card creates one context at a time, in 0.15 s
 *   delay      loads its data: it holds its context
 *   work       holds --gib on each card and takes --percent of it, for --seconds if it is alone. If the loads on
 *              a card add up to more than 100 %, all work there is slowed by their sum. After --grow-after seconds
 *              of work it takes --grow GiB more. --steps: it prints so many reports of its steps.
 *
 * If a card has too little memory left, it prints torch's message and exits with code 1. At its end it appends
 * "NAME PID BEGAN ENDED done|out-of-memory" to the file of the table's name and ".runs", in seconds of the
 * monotonic clock.
 * Further words are ignored: they make command lines differ, as settings do.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "card_table.h"

#define GIB (1024.0 * 1024 * 1024)
static const double CONTEXT_BYTES = 0.6 * GIB, CONTEXT_S = 0.15, TICK_S = 0.05;
enum { TABLE_LOCK = 0, FIRST_CARD_LOCK = 1 };  /* bytes of the table's file */

static struct {
    const char *name;
    double startup, crowding, delay, gib, percent, seconds, grow, grow_after;
    long steps;
} option = {.name = "load"};
static volatile card_table *table;
static volatile table_slot *mine;
static int table_file;
static uint32_t cards;
static double began;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void rest(double seconds) {
    if (seconds <= 0) return;
    struct timespec time = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    while (nanosleep(&time, &time)) continue;
}

/* Lock or unlock a byte of the table's file; the kernel unlocks it if this process dies. */
static void set_lock(int byte, short type) {
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    while (fcntl(table_file, F_SETLKW, &lock)) continue;
}

static void finish(int code, const char *outcome) {
    char path[4200], line[300];
    snprintf(path, sizeof path, "%s.runs", getenv("STANDIN_TABLE"));
    if (mine) mine->percent = 0, mine->bytes = 0, mine->pid = 0;
    int file = open(path, O_WRONLY | O_APPEND | O_CREAT, 0666);
    int length = snprintf(
        line, sizeof line, "%.100s %d %.6f %.6f %s\n", option.name, getpid(), began, now(), outcome);
    if (file >= 0 && write(file, line, (size_t)length) != length) code = 9;
    exit(code);
}

static void read_options(int count, char **words) {
    struct { const char *name; double *value; } numbers[] = {
        {"--startup", &option.startup}, {"--crowding", &option.crowding}, {"--delay", &option.delay},
        {"--gib", &option.gib}, {"--percent", &option.percent}, {"--seconds", &option.seconds},
        {"--grow", &option.grow}, {"--grow-after", &option.grow_after},
    };
    for (int i = 1; i + 1 < count; i++) {
        if (!strcmp(words[i], "--name")) option.name = words[i + 1];
        if (!strcmp(words[i], "--steps")) option.steps = atol(words[i + 1]);
        for (size_t j = 0; j < sizeof numbers / sizeof *numbers; j++)
            if (!strcmp(words[i], numbers[j].name)) *numbers[j].value = atof(words[i + 1]);
    }
}

static void find_cards(void) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    char text[4096], *left = NULL;
    snprintf(text, sizeof text, "%s", visible ? visible : "");
    for (char *word = strtok_r(text, ",", &left); word; word = strtok_r(NULL, ",", &left))
        for (uint32_t i = 0; i < table->cards; i++) {
            char number[12];
            snprintf(number, sizeof number, "%u", i);
            if (!strcmp(word, (const char *)table->card[i].uuid) || !strcmp(word, number))
                cards |= 1U << i;
        }
    if (!cards) {
        fprintf(stderr, "RuntimeError: No CUDA GPUs are available\n");
        exit(1);
    }
}

static void claim_slot(void) {
    set_lock(TABLE_LOCK, F_WRLCK);
    for (int i = 0; i < TABLE_SLOTS && !mine; i++)
        if (!table->slot[i].pid) mine = &table->slot[i];
    if (mine) mine->cards = cards, mine->bytes = 0, mine->percent = 0, mine->pid = getpid();
    set_lock(TABLE_LOCK, F_UNLCK);
    if (!mine) exit(9);
}

static void report_shortage(int place, double bytes, double left) {
    double held = (double)mine->bytes / GIB;
    fflush(stdout);
    fprintf(
        stderr,
        "Traceback (most recent call last):\n"
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate %.2f GiB. GPU %d has a total"
        " capacity of %.2f GiB of which %.2f GiB is free. Including non-PyTorch memory, this process"
        " has %.2f GiB memory in use. Of the allocated memory %.2f GiB is allocated by PyTorch, and"
        " 0 bytes is reserved by PyTorch but unallocated.\n",
        bytes / GIB, place, (double)table->card[place].total / GIB, left / GIB, held,
        held > CONTEXT_BYTES / GIB ? held - CONTEXT_BYTES / GIB : 0);
    finish(1, "out-of-memory");
}

/* Take memory on each card, or end. */
static void allocate(double bytes) {
    set_lock(TABLE_LOCK, F_WRLCK);
    for (uint32_t i = 0; i < table->cards; i++) {
        if (!(cards >> i & 1)) continue;
        double left = (double)table->card[i].total - (double)table->card[i].reserved;
        for (int j = 0; j < TABLE_SLOTS; j++)
            if (table->slot[j].pid && table->slot[j].cards >> i & 1) left -= (double)table->slot[j].bytes;
        if (bytes > left) report_shortage((int)i, bytes, left > 0 ? left : 0);
    }
    mine->bytes += (uint64_t)bytes;
    set_lock(TABLE_LOCK, F_UNLCK);
}

static void create_contexts(void) {
    int count = 0;
    for (uint32_t i = 0; i < table->cards; i++) {
        if (!(cards >> i & 1)) continue;
        set_lock(FIRST_CARD_LOCK + (int)i, F_WRLCK);
        rest(CONTEXT_S);
        if (!count++) allocate(CONTEXT_BYTES);  /* of all cards at once: a slot has one size */
        set_lock(FIRST_CARD_LOCK + (int)i, F_UNLCK);
    }
}

static double slowdown(void) {
    double most = 100;
    for (uint32_t i = 0; i < table->cards; i++)
        if (cards >> i & 1) {
            double load = load_of(table, (int)i);
            most = load > most ? load : most;
        }
    return most / 100;
}

static int others(void) {
    int count = -1;
    for (int i = 0; i < TABLE_SLOTS; i++) count += table->slot[i].pid && table->slot[i].cards & cards;
    return count;
}

static void start_up(void) {
    double done = 0;
    for (double last = now(); done < option.startup;) {
        double slower = 1 + option.crowding * others(), left = (option.startup - done) * slower;
        rest(option.crowding == 0 || left < TICK_S ? left : TICK_S);
        double time = now();
        done += (time - last) / slower;
        last = time;
    }
}

static void work(void) {
    double done = 0;
    long printed = 0;
    mine->percent = option.percent;
    for (double last = now(); done < option.seconds;) {
        double slower = slowdown(), left = (option.seconds - done) * slower;
        rest(left < TICK_S ? left : TICK_S);
        double time = now();
        done += (time - last) / slower;
        last = time;
        if (option.grow > 0 && done >= option.grow_after) {
            allocate(option.grow * GIB);
            option.grow = 0;
        }
        long step = (long)(done / option.seconds * (double)option.steps);
        step = step > option.steps ? option.steps : step;
        if (step > printed) {
            printf("launcher: step=%ld total=%ld\n", step, option.steps);
            fflush(stdout);
            printed = step;
        }
    }
}

int main(int count, char **words) {
    began = now();
    read_options(count, words);
    table = map_table(&table_file);
    if (!table) {
        fprintf(stderr, "no table of simulated cards: STANDIN_TABLE\n");
        return 3;
    }
    find_cards();
    claim_slot();
    start_up();
    create_contexts();
    rest(option.delay);
    allocate(option.gib * GIB);
    work();
    finish(0, "done");
}
