"""The same trainings without the machinery, as short texts to read. Nobody imports them; tests hold them equal.

Read them in this order; each takes one thing away from the hands of the one before:

    numpy_gradients   numpy alone: forward, gradients derived with pen and paper, `parameter -= lr * gradient`
    torch_autograd    torch finds the gradients; the update is still `p -= lr * p.grad`
    torch_optim       torch.nn holds the parameters, torch.optim updates them
    ../learner.py     what is left when batches, validation, history and checks are taken care of too

Each trains the same four things: a linear classifier with cross entropy, logistic regression (two classes), a net with
one hidden layer, and a linear classifier with the root mean squared error of its softmax. From the same first weights
and the same order of batches all of them end at the same weights (tests/test_by_hand.py).

`python -m inkproof.by_hand` trains them on the embedded digits.
"""
