#include "workers.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

namespace consilium {

namespace {

// Rows of one operation. Whoever takes part asks for the next piece until there is none.
struct Job {
  const std::function<void(std::size_t, std::size_t)>* run;
  std::size_t rows;
  std::size_t part_rows;
  std::size_t next = 0;
  std::size_t running = 0;
};

struct Pool {
  std::mutex mutex;
  std::condition_variable offered;
  std::condition_variable ended;
  std::deque<std::shared_ptr<Job>> jobs;
  unsigned threads = 1;
};

// Never destroyed: its threads may outlive static objects when the process ends.
Pool& pool() {
  static Pool* one = new Pool();
  return *one;
}

// Takes pieces until none is left. The lock is held on entry and on return.
void take_pieces(Pool& shared, Job& job, std::unique_lock<std::mutex>& lock) {
  while (job.next < job.rows) {
    const std::size_t first = job.next;
    const std::size_t last = std::min(job.rows, first + job.part_rows);
    job.next = last;
    job.running += 1;
    lock.unlock();
    (*job.run)(first, last);
    lock.lock();
    job.running -= 1;
  }
  if (job.running == 0) shared.ended.notify_all();
}

void work(Pool& shared) {
  std::unique_lock<std::mutex> lock(shared.mutex);
  for (;;) {
    shared.offered.wait(lock, [&] { return !shared.jobs.empty(); });
    const std::shared_ptr<Job> job = shared.jobs.front();
    if (job->next >= job->rows) {
      shared.jobs.pop_front();
      continue;
    }
    take_pieces(shared, *job, lock);
  }
}

}  // namespace

void start_workers(unsigned threads) {
  Pool& shared = pool();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  for (; shared.threads < threads; shared.threads += 1) std::thread([&shared] { work(shared); }).detach();
}

void in_parts(std::size_t rows, std::size_t part_rows_min,
              const std::function<void(std::size_t, std::size_t)>& run) {
  if (rows == 0) return;
  Pool& shared = pool();
  const std::size_t parts = std::min<std::size_t>(shared.threads, rows / std::max<std::size_t>(1, part_rows_min));
  if (parts <= 1) return run(0, rows);
  const auto job = std::make_shared<Job>(Job{&run, rows, (rows + parts - 1) / parts});
  std::unique_lock<std::mutex> lock(shared.mutex);
  shared.jobs.push_back(job);
  shared.offered.notify_all();
  take_pieces(shared, *job, lock);
  shared.ended.wait(lock, [&] { return job->running == 0; });
  shared.jobs.erase(std::remove(shared.jobs.begin(), shared.jobs.end(), job), shared.jobs.end());
}

}  // namespace consilium
