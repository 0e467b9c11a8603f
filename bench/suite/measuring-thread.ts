/**
 * Threads that measure one director each, as each of the daemon's data planes has a thread: of a function that a thread has
 * once V8 makes code for the very memory that it works on, and of two directors in a thread only the first would have that.
 */
import { once } from 'node:events'
import { parentPort, Worker, workerData } from 'node:worker_threads'

export class MeasuringThread<Question> {
  private constructor(private readonly worker: Worker) {}

  /**
   * Resolves when it has done what comes before measuring.
   *
   * @param program that calls `answerQuestions`
   */
  static async start<Task, Question>(program: URL, task: Task): Promise<MeasuringThread<Question>> {
    const worker = new Worker(program, { workerData: task })
    await once(worker, 'message')
    return new MeasuringThread(worker)
  }

  /** What it has measured. Rejects with the error that it has thrown. */
  async ask(question: Question): Promise<number> {
    this.worker.postMessage(question)
    const [answer] = (await once(this.worker, 'message')) as [number]
    return answer
  }

  async end(): Promise<void> {
    await this.worker.terminate()
  }
}

/** In such a thread: what `begin` makes of its task answers the questions. */
export function answerQuestions<Task, Question>(
  begin: (task: Task) => (question: Question) => number,
): void {
  const answer = begin(workerData as Task)
  parentPort!.on('message', (question: Question) => parentPort!.postMessage(answer(question)))
  parentPort!.postMessage('ready')
}
