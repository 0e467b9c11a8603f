import t from 'tap'
import { Tasks, type Task } from '../../src/core/tasks.js'
import { Work } from '../../src/core/work.js'

const advance = (tasks: Tasks, now: number, work = 1e9): boolean => {
  tasks.now = now
  return tasks.advance(now, new Work(work))
}

/** Comes back every so many jiffies. */
class Periodic implements Task {
  readonly ran: number[] = []
  constructor(
    public due: number,
    private readonly period: number,
    /** How many calls it takes. */
    private readonly calls = 1,
  ) {}
  run(now: number, work: Work): boolean {
    this.ran.push(now)
    work.left--
    if (this.ran.length % this.calls !== 0) return false
    this.due = (now + this.period) | 0
    return true
  }
}

t.test('what is due is done, and the next is told', (t) => {
  const tasks = new Tasks(-5)
  t.equal(tasks.now, -5)
  t.equal(tasks.due(1000), 1000, 'nothing to do')
  const often = new Periodic(10, 10)
  const seldom = new Periodic(25, 100)
  tasks.add(often)
  tasks.add(seldom)
  t.equal(tasks.due(1000), 10)
  for (let now = 0; now <= 30; now++) t.equal(advance(tasks, now), true)
  t.strictSame(often.ran, [10, 20, 30])
  t.strictSame(seldom.ran, [25])
  tasks.remove(often)
  t.equal(advance(tasks, 40), true, 'what has been removed may be waited for once more')
  t.equal(tasks.due(1000), 125)
  t.equal(tasks.due(100), 100)
  advance(tasks, 500)
  t.strictSame(often.ran.length, 3)
  t.strictSame(seldom.ran, [25, 500], 'once, however late')
  t.end()
})

t.test('what does not come to its end goes on with the next call, at the same time', (t) => {
  const tasks = new Tasks(0)
  const [first, long, last] = [new Periodic(10, 100), new Periodic(10, 100, 3), new Periodic(10, 5)]
  for (const task of [first, long, last]) tasks.add(task)
  t.equal(advance(tasks, 10), false)
  t.equal(tasks.due(1000), 10, 'not done yet')
  t.equal(advance(tasks, 10), false)
  t.equal(advance(tasks, 10), true)
  t.strictSame([first.ran, long.ran, last.ran], [[10], [10, 10, 10], [10]])
  t.equal(tasks.due(1000), 15)

  t.equal(advance(tasks, 15, 1), false, 'no work left behind the first')
  tasks.remove(long)
  while (!advance(tasks, 15, 1));
  t.strictSame([first.ran, last.ran], [[10], [10, 15]])
  t.equal(tasks.due(1000), 20)
  t.end()
})

t.test('time wraps', (t) => {
  const tasks = new Tasks(0x7ffffff0)
  const task = new Periodic(0x7ffffff8, 16)
  tasks.add(task)
  advance(tasks, 0x7ffffff7)
  advance(tasks, 0x7ffffff8)
  t.equal(task.due, -0x7ffffff8)
  advance(tasks, 0x7fffffff)
  advance(tasks, -0x7ffffff8)
  t.strictSame(task.ran, [0x7ffffff8, -0x7ffffff8])
  t.end()
})
