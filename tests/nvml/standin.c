/* Stands in for libnvidia-ml.so.1 in tests: only what launcher/questions.py and launcher/nvml.py call.
 *
 * What it says is in the text file named by STANDIN_GPUS, read anew at every call, so that a test
 * can change the machine while programs run. One thing a line, words apart by spaces, in this order:
 *
 *   absent CODE                    nvmlInitWithFlags fails with CODE
 *   hang                           every call waits until the line is gone
 *   refuse FUNCTION CODE PLACE     FUNCTION fails with CODE, for the gpu at PLACE; -1: for each
 *   gpu KEY=VALUE …                a card, in PCI order; see read_device
 *   mig KEY=VALUE …                an instance of the card above
 *   process PID BYTES KIND         holds memory of the card or instance above; KIND c or g, BYTES -
 *                                  where the driver does not tell
 *   sample PID SM AGE              the process used SM percent of the card above, AGE microseconds ago
 *   xid SERIAL PLACE CODE          an error of the gpu at PLACE; SERIAL counts up
 *
 * Living processes can take memory: the folder named by STANDIN_TAKEN holds a file for each, named
 * after its pid, with lines "UUID BYTES" or "UUID BYTES SM". They are added to what the file above says.
 *
 * Where STANDIN_CALLS names a file, each call is put down in it: "PID SECONDS FUNCTION", seconds of
 * the monotonic clock.
 *
 * Compiled with -DOLD it has only what drivers of before 2022 have.
 */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <dirent.h>
#include <unistd.h>

enum {
    SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9, TIMEOUT = 10, GPU_IS_LOST = 15, VERSION_MISMATCH = 25,
};
enum { CARDS = 16, PARTS = 8, PROCESSES = 64, XIDS = 64 };
#define NOT_AVAILABLE (~0ULL)

typedef unsigned long long u64;

/* nvmlMemory_t, version 1: has no version field; used counts what the driver reserves */
typedef struct { u64 total, free, used; } memory_v1;
/* nvmlProcessInfo_t, version 2 and 3: _v2 and _v3 of Get…RunningProcesses fill the same struct */
typedef struct { unsigned pid; u64 used; unsigned gpu_instance, compute_instance; } process_v2;
/* nvmlUtilization_t, without versions */
typedef struct { unsigned gpu, memory; } utilization;
/* nvmlTemperature_t, version 1 */
typedef struct { unsigned version, sensor; int temperature; } temperature_v1;
#define TEMPERATURE_V1 (sizeof(temperature_v1) | 1U << 24)
/* nvmlEventData_t, the one of nvmlEventSetWait_v2 */
typedef struct { void *device; u64 type, data; unsigned gpu_instance, compute_instance; } event_v2;
#define XID_CRITICAL 8ULL

/* nvmlProcessUtilizationSample_t, of nvmlDeviceGetProcessUtilization */
typedef struct { unsigned pid; u64 at; unsigned sm, memory, encoder, decoder; } process_sample;

typedef struct { unsigned pid; u64 used; char kind; } holder;
typedef struct { unsigned pid, sm; u64 age; } sample;
typedef struct {
    char uuid[96], name[96];
    u64 total, used, ecc;
    long long util, power, limit, temp;  /* percent, milliwatts, milliwatts, degrees */
    int lost, missing, mode, divided, rows_pending, rows_failed, pages_pending;
    int holders;
    holder held[PROCESSES];
    int samples;
    sample sampled[PROCESSES];
} device;
typedef struct { long serial; int place; u64 code; } xid;
typedef struct { char function[64]; int code, place; } refusal;
typedef struct {
    int absent, hang, cards, xids, refusals;
    int parts[CARDS];
    device card[CARDS], part[CARDS][PARTS];
    xid reported[XIDS];
    refusal refused[XIDS];
} machine;
typedef struct { int place, part; } handle;  /* part -1: the card itself */
typedef struct { long delivered; u64 registered; } event_set;

static handle handles[CARDS][PARTS + 1];
static __thread machine all;  /* as it was at this thread's last call; too large for a stack */

static void read_device(device *one, char *words) {
    char *rest = NULL;
    memset(one, 0, sizeof *one);
    for (char *word = strtok_r(words, " \n", &rest); word; word = strtok_r(NULL, " \n", &rest)) {
        char *value = strchr(word, '=');
        if (!value) continue;
        *value++ = 0;
        long long number = (long long)strtoull(value, NULL, 10);
        if (*value == '-') number = strtoll(value, NULL, 10);
        if (!strcmp(word, "uuid")) snprintf(one->uuid, sizeof one->uuid, "%s", value);
        if (!strcmp(word, "name")) {
            snprintf(one->name, sizeof one->name, "%s", value);
            for (char *c = one->name; *c; c++) if (*c == '_') *c = ' ';
        }
        if (!strcmp(word, "total")) one->total = (u64)number;
        if (!strcmp(word, "used")) one->used = (u64)number;
        if (!strcmp(word, "ecc")) one->ecc = (u64)number;
        if (!strcmp(word, "util")) one->util = number;
        if (!strcmp(word, "power")) one->power = number;
        if (!strcmp(word, "limit")) one->limit = number;
        if (!strcmp(word, "temp")) one->temp = number;
        if (!strcmp(word, "lost")) one->lost = (int)number;
        if (!strcmp(word, "missing")) one->missing = (int)number;
        if (!strcmp(word, "mode")) one->mode = (int)number;
        if (!strcmp(word, "divided")) one->divided = (int)number;
        if (!strcmp(word, "rows_pending")) one->rows_pending = (int)number;
        if (!strcmp(word, "rows_failed")) one->rows_failed = (int)number;
        if (!strcmp(word, "pages_pending")) one->pages_pending = (int)number;
    }
}

static void hold(device *one, unsigned pid, u64 used, char kind) {
    if (one->holders < PROCESSES) one->held[one->holders++] = (holder){pid, used, kind};
}

static void sampled(device *one, unsigned pid, unsigned sm, u64 age) {
    if (one->samples < PROCESSES) one->sampled[one->samples++] = (sample){pid, sm, age};
}

/* A zombie holds nothing any more. */
static int lives(int pid) {
    char path[64], stat[512];
    if (kill(pid, 0) != 0 && errno != EPERM) return 0;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    size_t size = fread(stat, 1, sizeof stat - 1, file);
    fclose(file);
    stat[size] = 0;
    char *end = strrchr(stat, ')');
    return end && end[1] && end[2] != 'Z' && end[2] != 'X';
}

static void take(machine *now, const char *uuid, unsigned pid, u64 bytes, int sm) {
    for (int i = 0; i < now->cards; i++)
        for (int j = -1; j < now->parts[i]; j++) {
            device *one = j < 0 ? &now->card[i] : &now->part[i][j];
            if (strcmp(one->uuid, uuid)) continue;
            one->used = one->used + bytes < one->total ? one->used + bytes : one->total;
            hold(one, pid, bytes, 'c');
            if (sm >= 0) sampled(one, pid, (unsigned)sm, 0);
        }
}

static void read_taken(machine *now) {
    const char *folder = getenv("STANDIN_TAKEN");
    DIR *entries = folder ? opendir(folder) : NULL;
    struct dirent *entry;
    while (entries && (entry = readdir(entries))) {
        int pid = atoi(entry->d_name);
        char path[4096], line[512], uuid[96];
        u64 bytes;
        int sm;
        if (pid <= 0 || !lives(pid)) continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        FILE *file = fopen(path, "r");
        while (file && fgets(line, sizeof line, file)) {
            int words = sscanf(line, "%95s %llu %d", uuid, &bytes, &sm);
            if (words >= 2) take(now, uuid, (unsigned)pid, bytes, words == 3 ? sm : -1);
        }
        if (file) fclose(file);
    }
    if (entries) closedir(entries);
}

static void read_once(machine *now) {
    const char *path = getenv("STANDIN_GPUS");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[2048], amount[32], kind;
    device *last = NULL;
    unsigned pid, sm;
    u64 age;
    memset(now, 0, sizeof *now);
    if (!file) {
        now->absent = DRIVER_NOT_LOADED;
        return;
    }
    while (fgets(line, sizeof line, file)) {
        xid *error = &now->reported[now->xids];
        refusal *no = &now->refused[now->refusals];
        sscanf(line, "absent %d", &now->absent);
        if (!strncmp(line, "hang", 4)) now->hang = 1;
        if (now->refusals < XIDS
            && sscanf(line, "refuse %63s %d %d", no->function, &no->code, &no->place) == 3)
            now->refusals++;
        if (now->xids < XIDS
            && sscanf(line, "xid %ld %d %llu", &error->serial, &error->place, &error->code) == 3)
            now->xids++;
        if (!strncmp(line, "gpu ", 4) && now->cards < CARDS) {
            last = &now->card[now->cards++];
            read_device(last, line + 4);
        }
        if (!strncmp(line, "mig ", 4) && now->cards && now->parts[now->cards - 1] < PARTS) {
            last = &now->part[now->cards - 1][now->parts[now->cards - 1]++];
            read_device(last, line + 4);
        }
        if (last && sscanf(line, "process %u %31s %c", &pid, amount, &kind) == 3)
            hold(last, pid, *amount == '-' ? NOT_AVAILABLE : strtoull(amount, NULL, 10), kind);
        if (last && sscanf(line, "sample %u %u %llu", &pid, &sm, &age) == 3)
            sampled(last, pid, sm, age);
    }
    fclose(file);
}

static void read_machine(machine *now) {
    read_once(now);
    while (now->hang) {
        usleep(10000);
        read_once(now);
    }
    read_taken(now);
}

static void put_down(const char *function) {
    const char *path = getenv("STANDIN_CALLS");
    FILE *file = path ? fopen(path, "a") : NULL;
    struct timespec now;
    if (!file) return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    fprintf(file, "%d %ld.%03ld %s\n", getpid(), (long)now.tv_sec, now.tv_nsec / 1000000, function);
    fclose(file);
}

/* Read the machine, and tell how `function` is refused there; `one` is what `which` means. */
static int look(machine *now, const char *function, const handle *which, device **one) {
    put_down(function);
    read_machine(now);
    int place = which ? which->place : -1;
    for (int i = 0; i < now->refusals; i++) {
        const refusal *no = &now->refused[i];
        if (!strcmp(no->function, function) && (no->place == -1 || no->place == place))
            return no->code;
    }
    if (!one) return SUCCESS;
    if (!which || which->place >= now->cards || now->card[which->place].missing)
        return INVALID_ARGUMENT;
    if (now->card[which->place].lost) return GPU_IS_LOST;
    if (which->part >= now->parts[which->place]) return INVALID_ARGUMENT;
    *one = which->part < 0 ? &now->card[which->place] : &now->part[which->place][which->part];
    return SUCCESS;
}

#define ASK(which)                                              \
    device *one = NULL;                                         \
    int refused = look(&all, __func__, (which), &one);          \
    if (refused) return refused

static void *give(int place, int part) {
    handle *found = &handles[place][part + 1];
    *found = (handle){place, part};
    return found;
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    int refused = look(&all, __func__, NULL, NULL);
    return refused ? refused : all.absent;
}

int nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(int code) { (void)code; return "stand-in error"; }

int nvmlDeviceGetCount_v2(unsigned *count) {
    int refused = look(&all, __func__, NULL, NULL);
    if (refused || all.absent) return refused ? refused : all.absent;
    *count = 0;
    for (int i = 0; i < all.cards; i++) *count += !all.card[i].missing;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **found) {
    int refused = look(&all, __func__, NULL, NULL);
    if (refused) return refused;
    for (int i = 0; i < all.cards; i++) {
        if (all.card[i].missing || index--) continue;
        if (all.card[i].lost == 2) return GPU_IS_LOST;  /* not even its handle is given */
        *found = give(i, -1);
        return SUCCESS;
    }
    return INVALID_ARGUMENT;
}

int nvmlDeviceGetUUID(handle *which, char *uuid, unsigned size) {
    ASK(which);
    snprintf(uuid, size, "%s", one->uuid);
    return SUCCESS;
}

int nvmlDeviceGetName(handle *which, char *name, unsigned size) {
    ASK(which);
    snprintf(name, size, "%s", one->name);
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(handle *which, memory_v1 *memory) {
    ASK(which);
    *memory = (memory_v1){one->total, one->total - one->used, one->used};
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(handle *which, utilization *rates) {
    ASK(which);
    if (which->part >= 0) return NOT_SUPPORTED;
    *rates = (utilization){(unsigned)one->util, 0};
    return SUCCESS;
}

int nvmlDeviceGetComputeMode(handle *which, unsigned *mode) {
    ASK(which);
    *mode = (unsigned)one->mode;
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(handle *which, unsigned *milliwatts) {
    ASK(which);
    *milliwatts = (unsigned)one->power;
    return SUCCESS;
}

int nvmlDeviceGetEnforcedPowerLimit(handle *which, unsigned *milliwatts) {
    ASK(which);
    *milliwatts = (unsigned)one->limit;
    return SUCCESS;
}

int nvmlDeviceGetTemperature(handle *which, unsigned sensor, unsigned *degrees) {
    ASK(which);
    (void)sensor;
    *degrees = (unsigned)one->temp;
    return SUCCESS;
}

int nvmlDeviceGetTotalEccErrors(handle *which, unsigned type, unsigned counter, u64 *count) {
    ASK(which);
    (void)type, (void)counter;
    *count = one->ecc;
    return SUCCESS;
}

int nvmlDeviceGetRetiredPagesPendingStatus(handle *which, unsigned *pending) {
    ASK(which);
    *pending = (unsigned)one->pages_pending;
    return SUCCESS;
}

static int list(const device *one, char kind, unsigned *count, process_v2 *found) {
    unsigned wanted = 0;
    for (int i = 0; i < one->holders; i++) wanted += one->held[i].kind == kind;
    if (!wanted || *count < wanted || !found) {
        *count = wanted;
        return wanted ? INSUFFICIENT_SIZE : SUCCESS;
    }
    *count = 0;
    for (int i = 0; i < one->holders; i++)
        if (one->held[i].kind == kind)
            found[(*count)++] = (process_v2){one->held[i].pid, one->held[i].used, ~0U, ~0U};
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v2(handle *which, unsigned *count, process_v2 *found) {
    ASK(which);
    return list(one, 'c', count, found);
}

int nvmlDeviceGetGraphicsRunningProcesses_v2(handle *which, unsigned *count, process_v2 *found) {
    ASK(which);
    return list(one, 'g', count, found);
}

int nvmlDeviceGetProcessUtilization(
    handle *which, process_sample *found, unsigned *count, u64 since
) {
    ASK(which);
    if (which->part >= 0 || one->divided) return NOT_SUPPORTED;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    u64 now_us = (u64)now.tv_sec * 1000000 + (u64)now.tv_nsec / 1000;
    unsigned wanted = 0, room = *count;
    for (int i = 0; i < one->samples; i++) wanted += now_us - one->sampled[i].age > since;
    *count = wanted;
    if (!wanted) return NOT_FOUND;
    if (!found || room < wanted) return INSUFFICIENT_SIZE;
    for (int i = 0, put = 0; i < one->samples; i++) {
        const sample *from = &one->sampled[i];
        if (now_us - from->age > since)
            found[put++] = (process_sample){from->pid, now_us - from->age, from->sm, 0, 0, 0};
    }
    return SUCCESS;
}

#ifndef OLD
int nvmlDeviceGetComputeRunningProcesses_v3(handle *which, unsigned *count, process_v2 *found) {
    ASK(which);
    return list(one, 'c', count, found);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(handle *which, unsigned *count, process_v2 *found) {
    ASK(which);
    return list(one, 'g', count, found);
}

int nvmlDeviceGetTemperatureV(handle *which, temperature_v1 *degrees) {
    ASK(which);
    if (degrees->version != TEMPERATURE_V1) return VERSION_MISMATCH;
    degrees->temperature = (int)one->temp;
    return SUCCESS;
}

int nvmlDeviceGetRemappedRows(
    handle *which, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed
) {
    ASK(which);
    *corrected = *uncorrected = 0;
    *pending = (unsigned)one->rows_pending;
    *failed = (unsigned)one->rows_failed;
    return SUCCESS;
}

int nvmlDeviceGetMigMode(handle *which, unsigned *current, unsigned *pending) {
    ASK(which);
    *current = *pending = (unsigned)one->divided;
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(handle *which, unsigned *count) {
    ASK(which);
    *count = PARTS - 1;
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(handle *which, unsigned index, void **found) {
    ASK(which);
    if ((int)index >= all.parts[which->place]) return NOT_FOUND;
    *found = give(which->place, (int)index);
    return SUCCESS;
}
#endif

int nvmlEventSetCreate(event_set **set) {
    int refused = look(&all, __func__, NULL, NULL);
    if (refused) return refused;
    *set = calloc(1, sizeof **set);
    for (int i = 0; i < all.xids; i++)  /* what was before is not told */
        if (all.reported[i].serial > (*set)->delivered) (*set)->delivered = all.reported[i].serial;
    return SUCCESS;
}

int nvmlDeviceRegisterEvents(handle *which, u64 types, event_set *set) {
    ASK(which);
    if (types & XID_CRITICAL) set->registered |= 1ULL << which->place;
    return SUCCESS;
}

int nvmlEventSetWait_v2(event_set *set, event_v2 *event, unsigned milliseconds) {
    (void)milliseconds;
    int refused = look(&all, __func__, NULL, NULL);
    if (refused) return refused;
    for (int i = 0; i < all.xids; i++) {
        const xid *error = &all.reported[i];
        if (error->serial <= set->delivered) continue;
        set->delivered = error->serial;
        if (!(set->registered >> error->place & 1)) continue;
        *event = (event_v2){give(error->place, -1), XID_CRITICAL, error->code, ~0U, ~0U};
        return SUCCESS;
    }
    return TIMEOUT;
}

int nvmlEventSetFree(event_set *set) { free(set); return SUCCESS; }

/* For the test that compares the structs above with nvidia-ml-py's: sizes, offsets, versions. */
typedef struct { const char *name; long value; } measure;
#define SIZE(theirs, type) {theirs, sizeof(type)}
#define PLACE(theirs, type, field) {theirs, offsetof(type, field)}
static const measure measures[] = {
    SIZE("c_nvmlMemory_t", memory_v1),
    PLACE("c_nvmlMemory_t.total", memory_v1, total),
    PLACE("c_nvmlMemory_t.free", memory_v1, free),
    PLACE("c_nvmlMemory_t.used", memory_v1, used),
    SIZE("c_nvmlProcessInfo_v2_t", process_v2),
    PLACE("c_nvmlProcessInfo_v2_t.pid", process_v2, pid),
    PLACE("c_nvmlProcessInfo_v2_t.usedGpuMemory", process_v2, used),
    PLACE("c_nvmlProcessInfo_v2_t.gpuInstanceId", process_v2, gpu_instance),
    PLACE("c_nvmlProcessInfo_v2_t.computeInstanceId", process_v2, compute_instance),
    SIZE("c_nvmlProcessUtilizationSample_t", process_sample),
    PLACE("c_nvmlProcessUtilizationSample_t.pid", process_sample, pid),
    PLACE("c_nvmlProcessUtilizationSample_t.timeStamp", process_sample, at),
    PLACE("c_nvmlProcessUtilizationSample_t.smUtil", process_sample, sm),
    PLACE("c_nvmlProcessUtilizationSample_t.memUtil", process_sample, memory),
    PLACE("c_nvmlProcessUtilizationSample_t.encUtil", process_sample, encoder),
    PLACE("c_nvmlProcessUtilizationSample_t.decUtil", process_sample, decoder),
    SIZE("c_nvmlUtilization_t", utilization),
    PLACE("c_nvmlUtilization_t.gpu", utilization, gpu),
    PLACE("c_nvmlUtilization_t.memory", utilization, memory),
    SIZE("c_nvmlTemperature_v1_t", temperature_v1),
    PLACE("c_nvmlTemperature_v1_t.version", temperature_v1, version),
    PLACE("c_nvmlTemperature_v1_t.sensorType", temperature_v1, sensor),
    PLACE("c_nvmlTemperature_v1_t.temperature", temperature_v1, temperature),
    {"nvmlTemperature_v1", TEMPERATURE_V1},
    SIZE("c_nvmlEventData_t", event_v2),
    PLACE("c_nvmlEventData_t.device", event_v2, device),
    PLACE("c_nvmlEventData_t.eventType", event_v2, type),
    PLACE("c_nvmlEventData_t.eventData", event_v2, data),
    PLACE("c_nvmlEventData_t.gpuInstanceId", event_v2, gpu_instance),
    PLACE("c_nvmlEventData_t.computeInstanceId", event_v2, compute_instance),
    {"nvmlEventTypeXidCriticalError", (long)XID_CRITICAL},
};

long standin_measure(const char *name) {
    for (size_t i = 0; i < sizeof measures / sizeof *measures; i++)
        if (!strcmp(measures[i].name, name)) return measures[i].value;
    return -1;
}
