// What the Java virtual machine needs of a kernel: threads on every CPU, stacks with guard pages, safepoints (a page
// that is made unreadable), implicit null checks through SIGSEGV, a heap that is reserved, committed and collected,
// timed waits, /proc and cgroup files. Prints "java: ok" and ends with 0.
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;

public class Hello {
    static final class Point {
        int x;
    }

    static void check(boolean good, String what) {
        if (!good) {
            System.out.println("java: failed: " + what);
            System.exit(1);
        }
    }

    /** Allocates far more than the heap has, and keeps some of it. */
    static long allocate(int megabytes) {
        byte[][] kept = new byte[16][];
        long sum = 0;
        for (int n = 0; n < megabytes * 16; n++) {
            byte[] block = new byte[64 * 1024];
            block[n & 0xffff] = 1;
            kept[n & 15] = block;
            sum += kept[n & 15][n & 0xffff];
        }
        return sum;
    }

    static int read(Point point) {
        return point.x;
    }

    /** Reads through null until that is compiled code, where the check is a fault. */
    static int nulls() {
        int caught = 0;
        Point point = new Point();
        for (int n = 0; n < 20_000; n++) {
            try {
                read(n % 1000 == 999 ? null : point);
            } catch (NullPointerException e) {
                caught++;
            }
        }
        return caught;
    }

    static int deep(int n) {
        return n + deep(n + 1);
    }

    public static void main(String[] args) throws Exception {
        System.out.println("hello");
        int cpus = Runtime.getRuntime().availableProcessors();
        AtomicLong sum = new AtomicLong();
        CountDownLatch together = new CountDownLatch(cpus);
        List<Thread> threads = new ArrayList<>();
        for (int n = 0; n < cpus; n++) {
            Thread thread = new Thread(() -> {
                together.countDown();
                try {
                    together.await();
                } catch (InterruptedException e) {
                    return;
                }
                sum.addAndGet(allocate(40));
            });
            thread.start();
            threads.add(thread);
        }
        for (Thread thread : threads) {
            thread.join();
        }
        check(sum.get() == cpus * 640L, "sum of threads");
        check(nulls() == 20, "null checks");
        boolean overflow = false;
        try {
            deep(0);
        } catch (StackOverflowError e) {
            overflow = true;
        }
        check(overflow, "guard page of the stack");
        try {
            int length = cpus * (1 << 26);
            check(new byte[length].length == 0, "more than the heap has");
        } catch (OutOfMemoryError e) {
            // As it must be with -Xmx64m.
        }
        Object lock = new Object();
        synchronized (lock) {
            lock.wait(10);
        }
        Thread sleeper = new Thread(() -> {
            try {
                Thread.sleep(1_000_000);
            } catch (InterruptedException e) {
                sum.set(-1);
            }
        });
        sleeper.start();
        sleeper.interrupt();
        sleeper.join();
        check(sum.get() == -1, "interrupt");
        System.out.println("java: ok");
    }
}
