import t from 'tap'
import { Tasks, type Task } from '../../src/core/tasks.js'

/** Comes back every so many jiffies. */
class Periodic implements Task {
  readonly ran: number[] = []
  constructor(
    public due: number,
    private readonly period: number,
  ) {}
  run(now: number): void {
    this.ran.push(now)
    this.due = (now + this.period) | 0
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
  for (let now = 0; now <= 30; now++) tasks.advance(now)
  t.equal(tasks.now, 30)
  t.strictSame(often.ran, [10, 20, 30])
  t.strictSame(seldom.ran, [25])
  tasks.remove(often)
  t.equal(tasks.due(1000), 125)
  t.equal(tasks.due(100), 100)
  tasks.advance(500)
  t.strictSame(often.ran.length, 3)
  t.strictSame(seldom.ran, [25, 500], 'once, however late')
  t.end()
})

t.test('time wraps', (t) => {
  const tasks = new Tasks(0x7ffffff0)
  const task = new Periodic(0x7ffffff8, 16)
  tasks.add(task)
  tasks.advance(0x7ffffff7)
  tasks.advance(0x7ffffff8)
  t.equal(task.due, -0x7ffffff8)
  tasks.advance(0x7fffffff)
  tasks.advance(-0x7ffffff8)
  t.strictSame(task.ran, [0x7ffffff8, -0x7ffffff8])
  t.end()
})
