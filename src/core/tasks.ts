import { Cost, type Work } from './work.js'

/** Work that comes back by itself, as the timers of IPVS's modules do. */
export interface Task {
  /** When it is to be done next: jiffies. */
  readonly due: number
  /**
   * Does it, and sets `due` anew.
   *
   * @returns false when the work that may be done has come to its end before: then it is to be called again, with the
   *   same time
   */
  run(nowJiffies: number, work: Work): boolean
}

/** The tasks of a director, and the time. Each comes back after seconds or more. */
export class Tasks {
  private readonly tasks = new Set<Task>()
  /** No task is due earlier; undefined when there is none. */
  private next: number | undefined
  /** Goes through the tasks, while it does: the one that it has come to, and the earliest that is due of those before. */
  private pass: Iterator<Task> | undefined
  private current: Task | undefined
  private earliest: number | undefined

  /** @param now jiffies */
  constructor(public now: number) {}

  add(task: Task): void {
    this.tasks.add(task)
    this.next = earlier(this.next, task.due)
  }

  remove(task: Task): void {
    this.tasks.delete(task)
    if (this.current === task) this.current = undefined
  }

  /** When the next one may be due: jiffies, `limit` at the latest. */
  due(limit: number): number {
    return earlier(this.next, limit)
  }

  /**
   * Does what is due, each task once.
   *
   * @returns false when there is more of it to be done at that time
   */
  advance(nowJiffies: number, work: Work): boolean {
    if (this.next === undefined || ((nowJiffies - this.next) | 0) < 0) return true
    this.pass ??= this.tasks.values()
    for (;;) {
      if (work.left <= 0) return false
      this.current ??= this.pass.next().value as Task | undefined
      const task = this.current
      if (task === undefined) break
      work.left -= Cost.look
      if (((nowJiffies - task.due) | 0) >= 0 && !task.run(nowJiffies, work)) return false
      this.earliest = earlier(this.earliest, task.due)
      this.current = undefined
    }
    this.next = this.earliest
    this.pass = this.earliest = undefined
    return true
  }
}

function earlier(one: number | undefined, other: number): number {
  return one === undefined || ((other - one) | 0) < 0 ? other : one
}
