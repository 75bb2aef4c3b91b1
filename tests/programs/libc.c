/* What a C library needs of a kernel: start-up, memory, files, threads, signals, processes, time.
 * Built statically and dynamically, with musl and glibc; prints "libc: ok" and exits with 0. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK(condition)                                                        \
	do {                                                                    \
		if (!(condition)) {                                             \
			printf("libc: line %d: %s: %s\n", __LINE__, #condition, \
			       strerror(errno));                                \
			exit(1);                                                \
		}                                                               \
	} while (0)

extern char **environ;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ready = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_key_t key;
static __thread int local;
static long total;
static int turn;
static volatile sig_atomic_t caught;
static sigjmp_buf escape;
static sem_t semaphore;

static void on_signal(int signal) { caught = signal; }
static void on_fault(int signal) { siglongjmp(escape, signal); }

static void *worker(void *argument)
{
	long number = (long)argument;
	local = (int)number;
	pthread_setspecific(key, argument);
	pthread_barrier_wait(&barrier);
	for (int n = 0; n < 1000; n++) {
		pthread_mutex_lock(&lock);
		total += number;
		pthread_mutex_unlock(&lock);
		if (n % 100 == 0)
			sched_yield();
	}
	sem_post(&semaphore);
	return local == number && pthread_getspecific(key) == argument ? argument : NULL;
}

static void *player(void *argument)
{
	for (int n = 0; n < 500; n++) {
		pthread_mutex_lock(&lock);
		while (turn % 2 != 1)
			pthread_cond_wait(&ready, &lock);
		turn++;
		pthread_cond_signal(&ready);
		pthread_mutex_unlock(&lock);
	}
	return argument;
}

static void *sleeper(void *argument)
{
	for (;;)
		pause();
	return argument;
}

static void threads(void)
{
	pthread_t thread[32];
	CHECK(pthread_barrier_init(&barrier, NULL, 32) == 0);
	CHECK(pthread_key_create(&key, NULL) == 0);
	CHECK(sem_init(&semaphore, 0, 0) == 0);
	for (long n = 0; n < 32; n++)
		CHECK(pthread_create(&thread[n], NULL, worker, (void *)(n + 1)) == 0);
	for (int n = 0; n < 32; n++)
		CHECK(sem_wait(&semaphore) == 0);
	for (long n = 0; n < 32; n++) {
		void *result;
		CHECK(pthread_join(thread[n], &result) == 0 && result == (void *)(n + 1));
	}
	CHECK(total == 528000);
	CHECK(pthread_create(&thread[0], NULL, player, NULL) == 0);
	for (int n = 0; n < 500; n++) {
		pthread_mutex_lock(&lock);
		while (turn % 2 != 0)
			pthread_cond_wait(&ready, &lock);
		turn++;
		pthread_cond_signal(&ready);
		pthread_mutex_unlock(&lock);
	}
	CHECK(pthread_join(thread[0], NULL) == 0 && turn == 1000);
	CHECK(pthread_create(&thread[0], NULL, sleeper, NULL) == 0);
	void *result;
	CHECK(pthread_cancel(thread[0]) == 0);
	CHECK(pthread_join(thread[0], &result) == 0 && result == PTHREAD_CANCELED);
	struct timespec soon;
	clock_gettime(CLOCK_REALTIME, &soon);
	soon.tv_nsec += 20000000;
	if (soon.tv_nsec >= 1000000000)
		soon.tv_sec++, soon.tv_nsec -= 1000000000;
	pthread_mutex_lock(&lock);
	CHECK(pthread_cond_timedwait(&ready, &lock, &soon) == ETIMEDOUT);
	pthread_mutex_unlock(&lock);
}

static int compare(const void *a, const void *b)
{
	return *(const int *)a < *(const int *)b ? -1 : *(const int *)a > *(const int *)b;
}

static void memory(void)
{
	void *blocks[1000];
	for (int round = 0; round < 5; round++) {
		for (int n = 0; n < 1000; n++) {
			size_t size = (size_t)(n * 37 % 5000) + 1;
			CHECK((blocks[n] = malloc(size)) != NULL);
			memset(blocks[n], n, size);
		}
		for (int n = 0; n < 1000; n++) {
			CHECK(*(unsigned char *)blocks[n] == (unsigned char)n);
			free(blocks[n]);
		}
	}
	char *big = malloc(50 << 20);
	CHECK(big != NULL);
	for (size_t n = 0; n < 50 << 20; n += 4096)
		big[n] = 1;
	CHECK((big = realloc(big, 80 << 20)) != NULL && big[49 << 20] == 1);
	free(big);
	int *numbers = malloc(100000 * sizeof(int));
	srand(1);
	for (int n = 0; n < 100000; n++)
		numbers[n] = rand();
	qsort(numbers, 100000, sizeof(int), compare);
	for (int n = 1; n < 100000; n++)
		CHECK(numbers[n - 1] <= numbers[n]);
	free(numbers);
}

static void files(void)
{
	char name[] = "/tmp/libcXXXXXX", line[100];
	int fd = mkstemp(name);
	CHECK(fd >= 0);
	FILE *file = fdopen(fd, "r+");
	for (int n = 0; n < 1000; n++)
		fprintf(file, "line %d %.3f\n", n, n / 8.0);
	rewind(file);
	for (int n = 0; n < 1000; n++) {
		int number;
		double value;
		CHECK(fgets(line, sizeof line, file) != NULL);
		CHECK(sscanf(line, "line %d %lf", &number, &value) == 2);
		CHECK(number == n && fabs(value - n / 8.0) < 0.001);
	}
	struct stat status;
	CHECK(fstat(fd, &status) == 0 && S_ISREG(status.st_mode));
	char *map = mmap(NULL, status.st_size, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(map != MAP_FAILED && memcmp(map, "line 0 ", 7) == 0);
	munmap(map, status.st_size);
	fclose(file);
	CHECK(unlink(name) == 0);
	DIR *directory = opendir("/proc");
	int seen = 0;
	for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
		seen += strcmp(entry->d_name, "self") == 0;
	closedir(directory);
	CHECK(seen == 1);
	FILE *command = popen("echo through a pipe; exit 3", "r");
	CHECK(command != NULL && fgets(line, sizeof line, command) != NULL);
	CHECK(strcmp(line, "through a pipe\n") == 0);
	CHECK(WEXITSTATUS(pclose(command)) == 3);
	CHECK(WEXITSTATUS(system("exit 42")) == 42);
}

static void signals(void)
{
	struct sigaction action = {.sa_handler = on_signal};
	sigaction(SIGUSR1, &action, NULL);
	raise(SIGUSR1);
	CHECK(caught == SIGUSR1);
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	kill(getpid(), SIGUSR2);
	int signal;
	CHECK(sigwait(&set, &signal) == 0 && signal == SIGUSR2);
	action.sa_handler = on_fault;
	sigaction(SIGSEGV, &action, NULL);
	for (int n = 0; n < 3; n++) {
		signal = sigsetjmp(escape, 1);
		if (signal == 0) {
			*(volatile int *)16 = 1;
			CHECK(!"reached");
		}
		CHECK(signal == SIGSEGV);
	}
	timer_t timer;
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	struct itimerspec soon = {.it_value = {.tv_nsec = 10000000}};
	caught = 0;
	CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
	CHECK(timer_settime(timer, 0, &soon, NULL) == 0);
	while (caught == 0)
		usleep(1000);
	timer_delete(timer);
}

static void processes(char *self)
{
	int ends[2], status;
	CHECK(pipe(ends) == 0);
	for (int n = 0; n < 10; n++) {
		pid_t child = fork();
		CHECK(child >= 0);
		if (child == 0) {
			dprintf(ends[1], "%d\n", n);
			_exit(n);
		}
		CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == n);
	}
	char text[100];
	CHECK(read(ends[0], text, sizeof text) == 20);
	pid_t child;
	char *arguments[] = {self, "child", NULL};
	CHECK(posix_spawn(&child, self, NULL, NULL, arguments, environ) == 0);
	CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 17);
	char *missing[] = {"/missing", NULL};
	CHECK(posix_spawn(&child, missing[0], NULL, NULL, missing, environ) == ENOENT);
	struct pollfd poll_on = {.fd = ends[0], .events = POLLIN};
	CHECK(poll(&poll_on, 1, 10) == 0);
}

static void clocks(void)
{
	struct timespec before, after, pause = {.tv_nsec = 5000000};
	clock_gettime(CLOCK_MONOTONIC, &before);
	nanosleep(&pause, NULL);
	clock_gettime(CLOCK_MONOTONIC, &after);
	long ns = (after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec;
	CHECK(ns >= 5000000);
	time_t zero = 86400;
	struct tm broken;
	char text[100];
	gmtime_r(&zero, &broken);
	strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &broken);
	CHECK(strcmp(text, "1970-01-02 00:00:00") == 0);
	CHECK(time(NULL) > 1600000000);
}

int main(int count, char **arguments)
{
	if (count > 1)
		return 17;
	memory();
	files();
	threads();
	signals();
	processes(arguments[0]);
	clocks();
	CHECK(sysconf(_SC_NPROCESSORS_ONLN) >= 1 && sysconf(_SC_PAGESIZE) == 4096);
	printf("libc: ok\n");
	return 0;
}
