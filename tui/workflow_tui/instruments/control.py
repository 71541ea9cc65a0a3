"""What keys do to a training: run, step, pace, learning rate, stop, extend, reset, and what an advice asks for."""

from __future__ import annotations

from functools import partial

from msgspec.structs import replace

from workflow_core.protocol import (
    BuildModel,
    Extend,
    LeaveRace,
    NextLine,
    Pause,
    RaceView,
    Reset,
    Run,
    SetLearningRate,
    SetTraining,
    Stop,
)
from workflow_core.sanitize import sanitize
from workflow_core.specs import MAX_EPOCHS, MAX_SEED
from workflow_tui import figures, run_text
from workflow_tui.commands import Command
from workflow_tui.dialogs.base import Choice, Dialog
from workflow_tui.dialogs.experiment import ExperimentDialog
from workflow_tui.dialogs.number import NumberDialog
from workflow_tui.dialogs.paused import give_up_dialog
from workflow_tui.instruments.looking import LookingScreen

PACES: tuple[float | None, ...] = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, None)
MORE = 200
"""Epochs that a run is extended by unless a person says otherwise."""

CONTROL = (
    Command("run_pause", "space", "space", "run/pause", "Run the training, or pause it."),
    Command("next_line", "s", "s", "one line", "Run the next line of the loop, and show what it made."),
    Command("one_epoch", "full_stop", ".", "one epoch", "Train one epoch, then pause."),
    Command("one_step", "apostrophe", "'", "one step", "One step of the optimizer (a batch), then pause.", bar=False),
    Command("some_epochs", "b", "b", "n epochs", "Train a number of epochs, then pause.", bar=False),
    Command("faster", "plus,equals_sign", "+", "faster", "Raise the pace, up to flat out."),
    Command("slower", "minus", "-", "slower", "Lower the pace, down to 1 epoch a second."),
    Command("flat_out", "g", "g", "flat out", "As fast as it goes.", bar=False),
    Command("learning_rate", "l", "l", "lr", "Change the learning rate of this run, from the next epoch that begins."),
    Command("try_rate", "T", "T", "try the rate", "Reset, and train with the learning rate advised.", bar=False),
    Command("stop", "S", "S", "stop", "End the run: keep it as it stands, or discard it.", bar=False),
    Command("extend", "m", "m", "more epochs", "Give the run more epochs, and train them.", bar=False),
    Command(
        "reset",
        "r",
        "r",
        "reset",
        "Back to epoch 0, the first one, with the same initial weights.",
    ),
    Command("new_seed", "N", "N", "new seed", "Back to epoch 0 with other initial weights: the next seed.", bar=False),
    Command("experiment", "e", "e", "experiment", "Switch lines of the loop off, or move them, and see.", bar=False),
)


def stop_dialog(run: int, epochs: int) -> Dialog[str]:
    """How shall the run end?"""
    return Dialog(
        f"Stop run {run}?",
        f"{figures.epochs(epochs)} were done when this was asked; what runs goes on until it is answered.",
        (
            Choice("k", "finish and keep it: it can be evaluated, saved and compared", "keep", "primary"),
            Choice("d", "discard it: the run and its record are gone", "discard", "error"),
            Choice("c", "cancel: it goes on", "cancel"),
        ),
        cancel="cancel",
    )


def stop_race_dialog(race: RaceView) -> Dialog[str]:
    """How shall the race end?"""
    lanes = ", ".join(sanitize(lane.label, 40) for lane in race.lanes)
    return Dialog(
        f"Stop the race of {len(race.lanes)} lanes?",
        f"Its lanes: {lanes}.\n{figures.epochs(race.epoch)} of each lane were done when this was asked; "
        "what runs goes on until it is answered.",
        (
            Choice("k", "end it here, keep its lanes: one can be taken on", "keep", "primary"),
            Choice("d", "discard it: every lane and its record are gone", "discard", "error"),
            Choice("c", "cancel: it goes on", "cancel"),
        ),
        cancel="cancel",
    )


class ControlScreen(LookingScreen):
    """The keys that control a training."""

    def action_run_pause(self) -> None:
        """Run, or pause what runs."""
        if self.owner.state.busy or self.owner.link.waits_for(Run):
            self.owner.send(Pause())
        elif self.owner.state.race is not None:
            if self.owner.state.racing:
                self.owner.run_training()
            else:
                self.owner.complain("The race is over: enter takes a lane on, r goes back to a single run")
        else:
            self.action_now()
            self.owner.run_training()

    def action_next_line(self) -> None:
        """One line of the loop."""
        if not self.refuses_race():
            self.action_now()
            self.owner.run_training(NextLine())

    def action_one_epoch(self) -> None:
        """Train a single epoch."""
        self._run_some(1)

    def action_one_step(self) -> None:
        """One step of the optimizer."""
        if not self.refuses_race():
            self.action_now()
            self.owner.run_training(Run(steps=1))

    def action_some_epochs(self) -> None:
        """Ask how many epochs, and train them."""
        self.owner.start_work(self._some_epochs, "dialogs", exclusive=True)

    async def _some_epochs(self) -> None:
        epochs = await self._count("Train some epochs", "Then it pauses.", 10)
        if epochs is not None:
            self._run_some(epochs)

    def _run_some(self, epochs: int) -> None:
        race = self.owner.state.race
        if race is not None and not self.owner.state.racing:
            self.refuses_race()
            return
        if race is None:
            self.action_now()
        self.owner.run_training(Run(epochs=epochs))

    async def _count(self, title: str, text: str, value: int) -> int | None:
        dialog = NumberDialog(title, text, "epochs", value, low=1, high=MAX_EPOCHS, integer=True)
        count = await self.app.push_screen_wait(dialog)
        return None if count is None else int(count)

    def action_faster(self) -> None:
        """The next higher pace."""
        self._change_pace(1)

    def action_slower(self) -> None:
        """The next lower pace."""
        self._change_pace(-1)

    def action_flat_out(self) -> None:
        """No pace at all."""
        self._set_pace(None)

    def _change_pace(self, by: int) -> None:
        pace = self.owner.pace
        at = PACES.index(pace) if pace in PACES else sum(p is not None and p < (pace or 0) for p in PACES)
        self._set_pace(PACES[min(max(at + by, 0), len(PACES) - 1)])

    def _set_pace(self, pace: float | None) -> None:
        self.owner.set_pace(pace)
        training = self.owner.state.training
        if self.owner.state.race is None and training is not None and training.state in run_text.ENDED:
            self.owner.complain(f"Runs to come train at {run_text.pace_text(pace)}: this one has ended")

    def action_learning_rate(self) -> None:
        """Change the learning rate of the run that is there."""
        training = self.owner.state.training
        if self.refuses_race():
            return
        if training is None:
            self.owner.complain("There is no run yet: the learning rate of the next one is a setting, enter goes there")
        elif training.state in run_text.ENDED:
            self.owner.complain("This run has ended: the learning rate of the next one is a setting, enter goes there")
        else:
            self.owner.start_work(self._change_learning_rate, "dialogs", exclusive=True)

    async def _change_learning_rate(self) -> None:
        training = self.owner.state.training
        if training is None:
            return
        rate = await self.app.push_screen_wait(
            NumberDialog(
                "Learning rate of this run",
                "It holds from the next epoch that begins; a schedule goes on from there. "
                "The settings of the next run stay.",
                "learning rate",
                training.learning_rate or training.spec.learning_rate,
                low=0,
                high=1e6,
            )
        )
        if rate is not None:
            self.owner.send(SetLearningRate(learning_rate=rate))

    def action_try_rate(self) -> None:
        """Train anew with the learning rate that is advised."""
        if self.refuses_race():
            return
        training = self.owner.state.training
        rate = training.try_lr if training is not None else None
        if training is None or rate is None:
            self.owner.complain("No learning rate is advised: l changes that of this run")
            return
        spec = replace(training.spec, learning_rate=rate)
        self._give_up("T", "train anew with the rate advised", SetTraining(spec=spec), Reset(), Run())

    def _give_up(self, key: str, what: str, *commands: SetTraining | Pause | BuildModel | Reset | Run) -> None:
        """Do what begins anew in place of the run that is there; after a question where that took long and is in no
        file, whoever began it."""
        if self.owner.state.precious and self.owner.state.race is None:
            self.owner.start_work(partial(self._ask_to_give_up, key, what, *commands), "dialogs", exclusive=True)
        else:
            self.owner.start_work(partial(self._in_turn, *commands), "commands")

    async def _ask_to_give_up(
        self, key: str, what: str, *commands: SetTraining | Pause | BuildModel | Reset | Run
    ) -> None:
        training = self.owner.state.training
        if training is None:
            return
        if not await self.app.push_screen_wait(give_up_dialog(training, key, what)):
            return
        there = self.owner.state.training
        if there is None or there.run != training.run:
            self.owner.complain(f"Run {training.run} has changed meanwhile: nothing was done")
            return
        self.owner.start_work(partial(self._in_turn, *commands), "commands")

    async def _in_turn(self, *commands: SetTraining | Pause | BuildModel | Reset | Run) -> None:
        for command in commands:
            if not (await self.owner.link.ask(command))[1]:
                return

    def action_stop(self) -> None:
        """Ask how the run shall end, or the race."""
        training, race = self.owner.state.training, self.owner.state.race
        if race is not None:
            if self.owner.state.racing:
                self.owner.start_work(self._stop, "dialogs", exclusive=True)
            else:
                self.owner.complain("The race is over and its lanes are kept: enter takes one on, u lists all runs")
        elif training is None or not training.epoch:
            self.owner.complain("There is no run to stop")
        elif training.state in run_text.ENDED:
            self.owner.complain("This run has ended already; u lists all runs")
        else:
            self.owner.start_work(self._stop, "dialogs", exclusive=True)

    async def _stop(self) -> None:
        training, race = self.owner.state.training, self.owner.state.race
        if race is not None:
            dialog, there = stop_race_dialog(race), race.race
        elif training is not None:
            dialog, there = stop_dialog(training.run, training.epoch), None
        else:
            return
        answer = await self.app.push_screen_wait(dialog)
        race = self.owner.state.race
        if (None if race is None else race.race) != there:
            self.owner.complain("It has ended meanwhile: nothing was stopped")
        elif answer != "cancel":
            self.owner.send(Stop(keep=answer == "keep"))

    def action_extend(self) -> None:
        """Ask how many more epochs, and train them."""
        if self.refuses_race():
            return
        if self.owner.state.training is None:
            self.owner.complain("There is no run yet: space starts one")
        else:
            self.owner.start_work(self._extend, "dialogs", exclusive=True)

    async def _extend(self) -> None:
        training = self.owner.state.training
        if training is None:
            return
        done = f"{figures.whole(training.epoch)} of {figures.epochs(training.spec.epochs)}"
        than = "from there" if training.state == "finished" else f"beyond {figures.whole(training.spec.epochs)}"
        text = f"Run {training.run} has done {done}. So many more, {than}:"
        epochs = await self._count("More epochs", text, MORE)
        if epochs is not None:
            self.owner.send(Extend(epochs=epochs))

    def action_reset(self) -> None:
        """Back to the same initial weights; from a race that is over, to the run that was there before."""
        self.owner.once_known(self._reset)

    def _reset(self) -> None:
        if self.owner.state.race is not None and not self.owner.state.racing:
            self.owner.send(LeaveRace())
            return
        self._give_up("r", "reset: begin anew at epoch 0", Reset())

    def action_new_seed(self) -> None:
        """Other initial weights."""
        self.owner.once_known(self._new_seed)

    def _new_seed(self) -> None:
        if self.refuses_race():
            return
        model = self.owner.state.model_spec
        if model.init.kind != "seed":
            self.owner.complain(f"The initial weights are {model.init.kind}, not drawn by a seed: step 2 changes that")
            return
        seed = model.init.seed + 1 if model.init.seed < MAX_SEED else 0
        spec = replace(model, init=replace(model.init, seed=seed))
        self._give_up("N", "begin anew with the next seed", Pause(), BuildModel(spec=spec), Reset())

    def action_experiment(self) -> None:
        """Take the loop apart."""
        if self.refuses_race():
            return
        if self.owner.state.train_spec.optimizer == "lbfgs":
            self.owner.complain("LBFGS runs the lines of the loop by itself: choose another optimizer to change them")
        else:
            self.owner.start_work(self._experiment, "dialogs", exclusive=True)

    async def _experiment(self) -> None:
        chosen = await self.app.push_screen_wait(ExperimentDialog(self.owner.state.train_spec))
        if chosen is not None:
            changed = replace(self.owner.state.train_spec, loop=chosen.loop, optimizer_over=chosen.optimizer_over)
            self.owner.send(SetTraining(spec=changed))
